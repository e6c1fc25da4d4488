# libtorch: from CMAKE_PREFIX_PATH if that holds one, else from the project's venv (scripts/setup).
find_package(Torch QUIET)
if(NOT Torch_FOUND)
  file(GLOB wheel ${PLAIT_VENV}/lib/python3*/site-packages/torch/share/cmake)
  if(NOT wheel)
    message(FATAL_ERROR "no libtorch: neither CMAKE_PREFIX_PATH nor ${PLAIT_VENV} has one; "
                        "run scripts/setup, or configure with -DPLAIT_TORCH=OFF")
  endif()
  list(APPEND CMAKE_PREFIX_PATH ${wheel})
  find_package(Torch REQUIRED)
endif()

# The wheel has no gloo headers: Debian's supply the declarations c10d's own headers ask for.
find_path(PLAIT_GLOO_INCLUDE gloo/config.h REQUIRED)
add_library(plait_libtorch INTERFACE)
target_include_directories(plait_libtorch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS} ${PLAIT_GLOO_INCLUDE})
target_compile_definitions(plait_libtorch INTERFACE USE_C10D_GLOO)
target_link_libraries(plait_libtorch INTERFACE ${TORCH_LIBRARIES})
