# `cmake --install`: the library without torch as a CMake package, plait::core, and the command.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(PLAIT_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/plait)
set_target_properties(plait_core PROPERTIES EXPORT_NAME core OUTPUT_NAME plait)
install(TARGETS plait_core EXPORT plait ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(folder ${PLAIT_CORE_FOLDERS})
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/plait/${folder}/*.h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/plait/${folder})
endforeach()
install(EXPORT plait NAMESPACE plait:: FILE plaitTargets.cmake DESTINATION ${PLAIT_PACKAGE_DIR})
file(WRITE ${CMAKE_BINARY_DIR}/plaitConfig.cmake
     "include(CMakeFindDependencyMacro)\n"
     "find_dependency(Threads)\n"
     "find_dependency(fmt)\n"
     "find_dependency(tl-expected)\n"
     "include(\${CMAKE_CURRENT_LIST_DIR}/plaitTargets.cmake)\n")
# Before 1.0 a minor version may change anything.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/plaitConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/plaitConfig.cmake ${CMAKE_BINARY_DIR}/plaitConfigVersion.cmake
        DESTINATION ${PLAIT_PACKAGE_DIR})
