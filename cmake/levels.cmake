# The CPU levels: which files of src/cpu are compiled, with which flags. Takes those of other processors out of
# `sources`.
get_filename_component(root "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)

# Kernels for more than the base instruction set: level_NAME.c is compiled only for the processor that it is for, and
# only if the compiler takes its flags; dispatch.c is told which levels there are. There, and only there, a * b + c may
# become one instruction: selection allows for it with a proved bound, attention is held to a tolerance.
function(reattn_level name processor flags)
    set(source "${root}/src/cpu/level_${name}.c")
    string(TOUPPER ${name} NAME)
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${processor})$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
        check_c_compiler_flag("${flags}" REATTN_CC_${NAME})
    endif()
    if(REATTN_CC_${NAME} AND source IN_LIST sources)
        separate_arguments(flags)
        set_property(SOURCE "${source}" PROPERTY COMPILE_OPTIONS ${flags} -ffp-contract=fast)
        set_property(SOURCE "${root}/src/cpu/dispatch.c" APPEND PROPERTY COMPILE_DEFINITIONS REATTN_HAVE_${NAME})
    else()
        list(REMOVE_ITEM sources "${source}")
        set(sources "${sources}" PARENT_SCOPE)
    endif()
endfunction()
include(CheckCCompilerFlag)
reattn_level(avx2 "x86_64|AMD64" "-mavx2 -mfma -mf16c")
reattn_level(avx512 "x86_64|AMD64"
    "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mprefer-vector-width=512")
reattn_level(neon "aarch64|arm64" "-march=armv8.2-a+dotprod")
