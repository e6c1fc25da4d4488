# Every plait/<folder>/<name>_fuzz.cc becomes a libFuzzer program <name>_fuzz; target `fuzzers` builds all.
# Needs clang: cmake --preset fuzz.
# The library is instrumented too: a fuzzer that cannot see its branches only guesses.
target_compile_options(plait_options INTERFACE -fsanitize=fuzzer-no-link)
add_custom_target(fuzzers)
file(GLOB_RECURSE fuzz_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plait/*_fuzz.cc)
foreach(source ${fuzz_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} EXCLUDE_FROM_ALL ${source})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE plait_core)
  add_dependencies(fuzzers ${name})
endforeach()
