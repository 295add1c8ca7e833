# LATHE_CUDA builds the CUDA backend: needs nvcc, CUDA 13. CMAKE_CUDA_ARCHITECTURES says for which GPUs.
# lathe_cuda_library(NAME SOURCES... [LINK LIBRARIES...]): a lathe_library with .cu sources.
# lathe_cuda_test(NAME SOURCES... [LINK LIBRARIES...]): a lathe_test with the label cuda, which runs on the emulated GPU where
#   LATHE_EMULATE says so; in a build without nvcc, a test that CTest reports as skipped.
# lathe_cuda_rank_test(NAME RANKS TARGET [SETTING]): runs a program on so many ranks, each on a GPU of its own.
# lathe_late_cuda_test(TARGET): runs a lathe_cuda_test once more, with streams as late as CUDA allows them to be.
# The target cuda_tests builds all that the label cuda runs.

option(LATHE_CUDA "Build the CUDA backend" OFF)
option(LATHE_EMULATE "Run the CUDA tests on the emulated GPU" OFF)

find_package(CUDAToolkit 13 QUIET)
if(LATHE_CUDA)
  if(NOT CUDAToolkit_FOUND)
    message(FATAL_ERROR "LATHE_CUDA needs nvcc of CUDA 13 or newer: install the CUDA toolkit and put nvcc on the PATH, "
                        "or use the preset release")
  endif()
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  # Shared, so that one build runs on a GPU and, by another library of the same name, on the emulated one.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # which CMake 3.25 does not know yet
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  if(LATHE_CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${LATHE_CCACHE})
  endif()
endif()

function(lathe_cuda_library name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Werror>
    # Fused multiply-add only where it is written, so that a formula inlined twice gives the same bits twice.
    # Relaxed constexpr: kernels call the random numbers of kernels/random.h, which knows nothing of CUDA.
    $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo -fmad=false --expt-relaxed-constexpr -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Wshadow,-Werror>)
  # Debian's fmt switches constexpr off under nvcc, which its own checks of format strings need.
  target_compile_definitions(${name} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>)
  target_link_libraries(${name} PUBLIC ${arg_LINK})
endfunction()

# What a CUDA program is started by.
if(LATHE_EMULATE)
  set(LATHE_CUDA_RUNNER ${CMAKE_SOURCE_DIR}/scripts/emulate.sh)
else()
  set(LATHE_CUDA_RUNNER /usr/bin/env)
endif()
# More emulated GPUs than any test has ranks.
set(LATHE_CUDA_TEST_PROPERTIES LABELS cuda ENVIRONMENT PTXEMU_DEVICES=4)
add_custom_target(cuda_tests)

function(lathe_skipped_cuda_test name)
  if(NOT CUDAToolkit_FOUND)
    add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -E echo
      "Skipped: no nvcc. Install the CUDA toolkit 13 and put nvcc on the PATH: scripts/test.sh then runs it on the emulated GPU")
    set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "Skipped: no nvcc" LABELS cuda)
  endif()
endfunction()

function(lathe_cuda_test name)
  if(NOT LATHE_CUDA)
    lathe_skipped_cuda_test(${name})
    return()
  endif()
  if(LATHE_EMULATE)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${LATHE_CUDA_RUNNER})
  endif()
  lathe_test(${name} ${ARGN} PROPERTIES ${LATHE_CUDA_TEST_PROPERTIES})
  add_dependencies(cuda_tests ${name})
endfunction()

function(lathe_cuda_rank_test name ranks target)
  if(NOT LATHE_CUDA)
    lathe_skipped_cuda_test(${name})
    return()
  endif()
  add_test(NAME ${name}
    COMMAND ${CMAKE_SOURCE_DIR}/scripts/mpirun.sh -n ${ranks} ${LATHE_CUDA_RUNNER} $<TARGET_FILE:${target}>)
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS cuda ENVIRONMENT "PTXEMU_DEVICES=4;${ARGN}")
  add_dependencies(cuda_tests ${target})
endfunction()

function(lathe_late_cuda_test target)
  if(LATHE_CUDA AND LATHE_EMULATE)
    add_test(NAME ${target}.late COMMAND ${LATHE_CUDA_RUNNER} $<TARGET_FILE:${target}>)
    set_tests_properties(${target}.late PROPERTIES TIMEOUT 300 LABELS cuda ENVIRONMENT "PTXEMU_DEVICES=4;PTXEMU_ASYNC=1")
  endif()
endfunction()
