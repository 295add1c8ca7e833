# lathe_library(NAME SOURCES... [LINK LIBRARIES...]): one folder, one static library, warnings as errors.
# lathe_share_headers(NAME SOURCES...): compiles these sources of a library as one, since headers take most of their time.
# lathe_test(NAME SOURCES... [LINK LIBRARIES...] [PROPERTIES NAME VALUE...]): one GoogleTest executable whose cases CTest knows by
#   name.
#   A high COST has them start first: those that wait more than they compute, so that others run beside them.
# lathe_lesser_processor_test(NAME FILTER): runs the cases that the filter names once more, as a processor without AVX-512 would.

if(LATHE_SANITIZE)
  add_compile_options(-fsanitize=${LATHE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${LATHE_SANITIZE})
endif()

find_program(LATHE_CCACHE ccache)
if(LATHE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LATHE_CCACHE})
endif()

function(lathe_target_options name)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Werror)
endfunction()

function(lathe_library name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  lathe_target_options(${name})
  target_link_libraries(${name} PUBLIC ${arg_LINK})
endfunction()

function(lathe_share_headers name)
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # A group's name is the first source's, so that a library may have several groups.
  list(GET ARGN 0 group)
  set_source_files_properties(${ARGN} PROPERTIES UNITY_GROUP ${group})
endfunction()

function(lathe_test name)
  cmake_parse_arguments(arg "" "" "LINK;PROPERTIES" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  lathe_target_options(${name})
  # What is tested lies in the libraries; the tests themselves are to compile quickly.
  target_compile_options(${name} PRIVATE -O1 -fno-sanitize=undefined)
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gtest GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 600 ${arg_PROPERTIES})
endfunction()

function(lathe_lesser_processor_test target filter)
  add_test(NAME ${target}.avx2 COMMAND ${target} --gtest_filter=${filter})
  set_tests_properties(${target}.avx2 PROPERTIES TIMEOUT 600 ENVIRONMENT ONEDNN_MAX_CPU_ISA=AVX2)
endfunction()
