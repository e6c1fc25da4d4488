# The libraries of the Python package, as headers alone, so that it needs none of them where it is installed: from
# third_party in a source distribution, which cmake fills when that is made; else from the machine (scripts/setup).
set(PLAIT_THIRD_PARTY ${CMAKE_SOURCE_DIR}/third_party)
if(EXISTS ${CMAKE_SOURCE_DIR}/PKG-INFO)  # of a source distribution
  set(only_there PATHS ${PLAIT_THIRD_PARTY}/include NO_DEFAULT_PATH)
endif()

# plait_headers(TARGET HEADER PACKAGE): TARGET has the folder of HEADER; PACKAGE is Debian's, with its licence, which the wheel holds.
function(plait_headers target header package)
  string(MAKE_C_IDENTIFIER "PLAIT_${header}_FOLDER" folder)
  find_path(${folder} ${header} ${only_there})
  if(NOT ${folder})
    message(FATAL_ERROR "${header} is missing, needed ${package} (scripts/setup) or plait's source distribution")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${${folder}})
  string(REGEX REPLACE "/.*" "" top ${header})
  set(licence /usr/share/doc/${package}/copyright)
  if(only_there)
    set(licence ${PLAIT_THIRD_PARTY}/licenses/${top}.txt)
  endif()
  install(FILES ${licence} DESTINATION plait/licenses RENAME ${top}.txt COMPONENT python OPTIONAL)
  if("${SKBUILD_STATE}" STREQUAL sdist)
    file(COPY ${${folder}}/${top} DESTINATION ${PLAIT_THIRD_PARTY}/include)
    configure_file(${licence} ${PLAIT_THIRD_PARTY}/licenses/${top}.txt COPYONLY)
  endif()
endfunction()

plait_headers(fmt::fmt fmt/core.h libfmt-dev)
plait_headers(tl::expected tl/expected.hpp libexpected-dev)
plait_headers(nlohmann_json::nlohmann_json nlohmann/json.hpp nlohmann-json3-dev)
plait_headers(tomlplusplus::tomlplusplus toml++/toml.h libtomlplusplus-dev)
target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY=1)
