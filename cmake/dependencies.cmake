# What reattn is built on. scripts/bootstrap.sh gets all of it.

# libllama: the machine's own if it has one, else the one that scripts/bootstrap.sh built.
find_package(llama CONFIG QUIET)
if(NOT llama_FOUND)
    file(GLOB site "${PROJECT_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages")
    find_package(llama CONFIG QUIET PATHS ${site} NO_DEFAULT_PATH)
endif()
if(NOT llama_FOUND)
    message(FATAL_ERROR "No llama.cpp: run scripts/bootstrap.sh, or set CMAKE_PREFIX_PATH to where yours is installed.")
endif()
message(STATUS "llama.cpp ${LLAMA_VERSION}: ${llama_DIR}")
get_target_property(llama_libdir llama IMPORTED_LOCATION)
get_filename_component(llama_libdir "${llama_libdir}" DIRECTORY)

# The kernels share ggml's OpenMP pool: two pools of spinning threads on the same cores would ruin both. Without OpenMP
# the library works on one thread.
find_package(OpenMP COMPONENTS C)

find_package(PkgConfig REQUIRED)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(libedit REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(cairo REQUIRED IMPORTED_TARGET cairo)
pkg_check_modules(libcurl REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(libxxhash REQUIRED libxxhash)

# CUDA where there is a compiler for it. Its runtime is linked statically and touches the driver at the first call
# only, so that the library works on machines without a GPU. Sanitizers are for the C code: they double the link and
# find nothing in kernels.
set(use_cuda ${REATTN_CUDA})
if(REATTN_CUDA STREQUAL "AUTO")
    set(use_cuda OFF)
    if(NOT REATTN_SANITIZE AND NOT REATTN_FUZZ)
        include(CheckLanguage)
        check_language(CUDA)
        find_package(CUDAToolkit 12.5 QUIET)
        if(CMAKE_CUDA_COMPILER AND TARGET CUDA::cudart_static)
            set(use_cuda ON)
        endif()
    endif()
endif()
if(use_cuda)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit 12.5 REQUIRED)
    file(GLOB cuda_sources CONFIGURE_DEPENDS src/cuda/*.cu)
    set(cuda_link_flags "-L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lstdc++ -ldl -lrt -pthread")
    message(STATUS "CUDA ${CUDAToolkit_VERSION}: for compute capabilities ${CMAKE_CUDA_ARCHITECTURES}")
else()
    message(STATUS "No CUDA kernels: REATTN_CUDA is ${REATTN_CUDA}")
endif()
