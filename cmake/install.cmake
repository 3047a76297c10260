# Headers, libraries, the program, and what pkg-config and find_package(reattn) need. All paths in the installed files
# are relative to themselves, so that the tree can be moved and `cmake --install --prefix` works; all but libllama's.
include(CMakePackageConfigHelpers)

# The program and libreattn carry the folder of a libllama that lies where the loader would not look (.deps, a prefix of
# one's own), in the build tree by CMake's default and installed by this.
if(NOT llama_libdir IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    set_property(TARGET reattn reattn_shared PROPERTY INSTALL_RPATH "${llama_libdir}")
endif()

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/reattn")
install(DIRECTORY include/reattn DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
install(TARGETS reattn RUNTIME)
install(TARGETS reattn_shared reattn_static EXPORT reattn LIBRARY ARCHIVE)
install(EXPORT reattn NAMESPACE reattn:: FILE reattnTargets.cmake DESTINATION "${package_dir}")

configure_package_config_file(cmake/reattnConfig.cmake.in reattnConfig.cmake INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file(reattnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/reattnConfig.cmake" "${PROJECT_BINARY_DIR}/reattnConfigVersion.cmake"
    DESTINATION "${package_dir}")

file(RELATIVE_PATH pc_to_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
configure_file(cmake/reattn.pc.in reattn.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/reattn.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
