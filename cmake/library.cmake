# libreattn, static and shared, from the same objects.

file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/*.c)
file(GLOB_RECURSE bridge_sources CONFIGURE_DEPENDS src/model/*.c)
list(REMOVE_ITEM sources ${bridge_sources})

# The table of the device engine: filled from src/cuda, or empty.
if(cuda_sources MATCHES "/step\\.cu")
    list(REMOVE_ITEM sources "${PROJECT_SOURCE_DIR}/src/device/none.c")
else()
    list(REMOVE_ITEM sources "${PROJECT_SOURCE_DIR}/src/device/cuda.c")
endif()

include(cmake/levels.cmake)

# The bridge is a target of its own: it alone is compiled with llama.cpp's headers in reach.
add_library(reattn_core OBJECT ${sources})
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

if(cuda_sources)
    add_library(reattn_cuda OBJECT ${cuda_sources})
    target_include_directories(reattn_cuda PRIVATE include src)
    set_target_properties(reattn_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_STANDARD 17 CUDA_VISIBILITY_PRESET hidden)
    set(cuda_objects $<TARGET_OBJECTS:reattn_cuda>)
    target_include_directories(reattn_core PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
endif()

add_library(reattn_static STATIC)
add_library(reattn_shared SHARED)
set_target_properties(reattn_shared PROPERTIES
    EXPORT_NAME reattn
    VERSION ${PROJECT_VERSION}
    # Before 1.0 a minor version may change the ABI.
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
foreach(library reattn_static reattn_shared)
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:reattn_core> $<TARGET_OBJECTS:reattn_bridge> ${cuda_objects})
    # C, although llama.cpp's package says C++: libllama is a shared library and brings its own libstdc++.
    set_target_properties(${library} PROPERTIES OUTPUT_NAME reattn LINKER_LANGUAGE C)
    target_include_directories(${library} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    target_link_directories(${library} PRIVATE ${libxxhash_LIBRARY_DIRS})
    target_link_libraries(${library} PRIVATE llama ${libxxhash_LIBRARIES} m)
    if(OpenMP_C_FOUND)
        target_link_libraries(${library} PRIVATE OpenMP::OpenMP_C)
    endif()
    if(cuda_sources)
        # Device code calls nothing of the C++ library, host code next to nothing.
        target_link_libraries(${library} PRIVATE CUDA::cudart_static stdc++)
    endif()
endforeach()
