# A folder is an idea: its sources join a library, its *_test.cc become one test program.
# A pair of files x_cuda.cc and x_no_cuda.cc implements one header: PLAIT_CUDA chooses. The tests
# x_cuda_test.cc and x_no_cuda_test.cc go with their file.

# plait_keep_built_device(LIST): takes from LIST the files of the device that is not built.
function(plait_keep_built_device list)
  set(kept)
  foreach(file ${${list}})
    set(needs ANY)
    if(file MATCHES "_no_cuda(_test)?\\.cc$")
      set(needs OFF)
    elseif(file MATCHES "_cuda(_test)?\\.cc$")
      set(needs ON)
    endif()
    if(needs STREQUAL ANY OR (needs AND PLAIT_CUDA) OR NOT (needs OR PLAIT_CUDA))
      list(APPEND kept ${file})
    endif()
  endforeach()
  set(${list} ${kept} PARENT_SCOPE)
endfunction()

# plait_folder_sources(OUT folder…): all sources of the folders but tests, fuzzers and benchmarks.
function(plait_folder_sources out)
  set(sources)
  foreach(folder ${ARGN})
    file(GLOB here CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plait/${folder}/*.cc)
    list(FILTER here EXCLUDE REGEX "_(test|fuzz)\\.cc$")
    plait_keep_built_device(here)
    list(APPEND sources ${here})
  endforeach()
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

# plait_test(name library source…): builds and registers a test program.
function(plait_test name library)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} SYSTEM PRIVATE ${PLAIT_RAPIDCHECK_INCLUDE})
  target_link_libraries(${name} PRIVATE ${library} nlohmann_json::nlohmann_json ${PLAIT_RAPIDCHECK_LIBRARY}
                        GTest::gtest GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${PLAIT_TEST_ENVIRONMENT}")
endfunction()

# plait_folder_test(folder library): <folder>_test of the folder's tests, if it has any and tests are built.
function(plait_folder_test folder library)
  if(NOT PLAIT_TESTS)
    return()
  endif()
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plait/${folder}/*_test.cc)
  plait_keep_built_device(tests)
  if(NOT tests)
    return()
  endif()
  string(REPLACE "/" "_" name ${folder}_test)
  plait_test(${name} ${library} ${tests})
endfunction()
