# libtorch with CUDA, from a wheel in PLAIT_CUDA_VENV (scripts/setup --cuda). Torch's own package refuses a machine
# without the whole toolkit, cuBLAS and all; the wheel brings these, so the target is made here.
set(PLAIT_CUDA_VENV ${CMAKE_SOURCE_DIR}/.venv-cuda CACHE PATH "the venv of scripts/setup --cuda: the torch wheel with CUDA")
file(GLOB torch_folder ${PLAIT_CUDA_VENV}/lib/python3*/site-packages/torch)
if(NOT EXISTS "${torch_folder}/lib/libtorch_cuda.so")
  message(FATAL_ERROR "PLAIT_CUDA needs a torch wheel with CUDA: ${PLAIT_CUDA_VENV} has none; run "
                      "scripts/setup --cuda, or name another venv by -DPLAIT_CUDA_VENV")
endif()
cmake_path(GET torch_folder PARENT_PATH site_packages)
file(GLOB cuda_wheel ${site_packages}/nvidia/cu[0-9]*)
if(NOT cuda_wheel)
  message(FATAL_ERROR "PLAIT_CUDA needs CUDA's libraries beside torch: ${site_packages}/nvidia has no cu13 or later")
endif()
cmake_path(GET cuda_wheel FILENAME cuda_major)
string(REPLACE "cu" "" cuda_major ${cuda_major})
# The wheel's headers lack some of the compiler's: the toolkit's stand before them.
find_path(PLAIT_CUDA_INCLUDE crt/host_config.h
          HINTS $ENV{CUDA_HOME}/include /usr/local/cuda-${cuda_major}/include /usr/local/cuda/include)
if(NOT PLAIT_CUDA_INCLUDE)
  message(FATAL_ERROR "PLAIT_CUDA needs the CUDA ${cuda_major} toolkit's headers (crt/host_config.h): neither CUDA_HOME "
                      "nor /usr/local/cuda has them")
endif()
file(STRINGS ${PLAIT_CUDA_INCLUDE}/cuda.h toolkit REGEX "^#define CUDA_VERSION [0-9]+")
string(REGEX REPLACE ".* ([0-9]+)[0-9][0-9][0-9]$" "\\1" toolkit "${toolkit}")
if(NOT toolkit EQUAL cuda_major)
  message(FATAL_ERROR "the torch of ${PLAIT_CUDA_VENV} needs CUDA ${cuda_major}, the toolkit at ${PLAIT_CUDA_INCLUDE} is "
                      "CUDA ${toolkit}")
endif()

set(TORCH_INSTALL_PREFIX ${torch_folder})
find_path(PLAIT_GLOO_INCLUDE gloo/config.h REQUIRED)
add_library(plait_libtorch INTERFACE)
target_include_directories(plait_libtorch SYSTEM INTERFACE
                           ${torch_folder}/include ${torch_folder}/include/torch/csrc/api/include
                           ${PLAIT_CUDA_INCLUDE} ${cuda_wheel}/include ${site_packages}/nvidia/nccl/include
                           ${PLAIT_GLOO_INCLUDE})
target_compile_definitions(plait_libtorch INTERFACE USE_C10D_GLOO USE_C10D_NCCL)
# Nobody calls torch_cuda by name: it registers itself when it is loaded.
target_link_options(plait_libtorch INTERFACE "LINKER:--no-as-needed")
# The wheel's libtorch.so exports parts of std::filesystem that crash: the loader must find the C++ library's first.
target_link_libraries(plait_libtorch INTERFACE stdc++)
foreach(name torch torch_cpu torch_cuda c10 c10_cuda)
  target_link_libraries(plait_libtorch INTERFACE ${torch_folder}/lib/lib${name}.so)
endforeach()
target_link_libraries(plait_libtorch INTERFACE ${cuda_wheel}/lib/libcudart.so.${cuda_major}
                      ${site_packages}/nvidia/nccl/lib/libnccl.so.2)

# The kernels know no torch. Machine code for sm_90, and PTX that other cards from sm_80 on compile for themselves. By nvcc
# itself: CMake 3.25 does not know how nvcc 13 is told C++20.
find_program(PLAIT_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda-${cuda_major}/bin /usr/local/cuda/bin)
if(NOT PLAIT_NVCC)
  message(FATAL_ERROR "PLAIT_CUDA needs the CUDA ${cuda_major} toolkit's nvcc: neither PATH, CUDA_HOME nor /usr/local/cuda "
                      "has it")
endif()
set(PLAIT_KERNELS ${CMAKE_BINARY_DIR}/gpu_kernels.o)
add_custom_command(
  OUTPUT ${PLAIT_KERNELS}
  COMMAND ${PLAIT_NVCC} -std=c++20 -O3 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_80,code=compute_80
          -ccbin ${CMAKE_CXX_COMPILER} -Xcompiler -Wall,-Wextra -I ${CMAKE_SOURCE_DIR} -I ${PLAIT_CUDA_INCLUDE}
          -c ${CMAKE_SOURCE_DIR}/plait/nn/ops/gpu_kernels.cu -o ${PLAIT_KERNELS}
  DEPENDS ${CMAKE_SOURCE_DIR}/plait/nn/ops/gpu_kernels.cu ${CMAKE_SOURCE_DIR}/plait/nn/ops/gpu_kernels.h
  VERBATIM)
