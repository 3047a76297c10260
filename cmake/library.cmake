# libreattn, static and shared, from the same objects.

file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/*.c)
file(GLOB_RECURSE bridge_sources CONFIGURE_DEPENDS src/model/*.c)
list(REMOVE_ITEM sources ${bridge_sources})

# Kernels for more than the base instruction set: level_NAME.c is compiled only for the processor that it is for, and
# only if the compiler takes its flags; dispatch.c is told which levels there are. There, and only there, a * b + c may
# become one instruction: selection allows for it with a proved bound, attention is held to a tolerance.
function(reattn_level name processor flags)
    set(source "${PROJECT_SOURCE_DIR}/src/cpu/level_${name}.c")
    string(TOUPPER ${name} NAME)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${processor})$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
        check_c_compiler_flag("${flags}" REATTN_CC_${NAME})
    endif()
    if(REATTN_CC_${NAME} AND source IN_LIST sources)
        separate_arguments(flags)
        set_property(SOURCE "${source}" PROPERTY COMPILE_OPTIONS ${flags} -ffp-contract=fast)
        set_property(SOURCE src/cpu/dispatch.c APPEND PROPERTY COMPILE_DEFINITIONS REATTN_HAVE_${NAME})
    else()
        list(REMOVE_ITEM sources "${source}")
        set(sources "${sources}" PARENT_SCOPE)
    endif()
endfunction()
include(CheckCCompilerFlag)
reattn_level(avx2 "x86_64|AMD64" "-mavx2 -mfma -mf16c")
reattn_level(avx512 "x86_64|AMD64"
    "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mprefer-vector-width=512")
reattn_level(neon "aarch64|arm64" "")

# The bridge is a target of its own: it alone is compiled with llama.cpp's headers in reach.
add_library(reattn_core OBJECT ${sources} ${cuda_sources})
add_library(reattn_bridge OBJECT ${bridge_sources})
target_link_libraries(reattn_bridge PRIVATE llama)
foreach(objects reattn_core reattn_bridge)
    set_property(TARGET ${objects} PROPERTY POSITION_INDEPENDENT_CODE ON)
    target_include_directories(${objects} PRIVATE include src ${libxxhash_INCLUDE_DIRS})
    if(OpenMP_C_FOUND)
        target_link_libraries(${objects} PRIVATE OpenMP::OpenMP_C)
    endif()
    if(REATTN_FUZZ)
        target_compile_options(${objects} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
endforeach()

add_library(reattn_static STATIC)
add_library(reattn_shared SHARED)
set_target_properties(reattn_shared PROPERTIES
    EXPORT_NAME reattn
    VERSION ${PROJECT_VERSION}
    # Before 1.0 a minor version may change the ABI.
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
foreach(library reattn_static reattn_shared)
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:reattn_core> $<TARGET_OBJECTS:reattn_bridge>)
    # C, although llama.cpp's package says C++: libllama is a shared library and brings its own libstdc++.
    set_target_properties(${library} PROPERTIES OUTPUT_NAME reattn LINKER_LANGUAGE C)
    target_include_directories(${library} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    target_link_directories(${library} PRIVATE ${libxxhash_LIBRARY_DIRS})
    target_link_libraries(${library} PRIVATE llama ${libxxhash_LIBRARIES} m)
    if(OpenMP_C_FOUND)
        target_link_libraries(${library} PRIVATE OpenMP::OpenMP_C)
    endif()
endforeach()
