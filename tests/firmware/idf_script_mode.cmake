# SPDX-License-Identifier: Apache-2.0
# Reads one component's CMakeLists.txt in CMake's script mode as ESP-IDF does before anything else, and writes what it
# registers to OUTPUT: a line `FIELD=value;value` for each argument of idf_component_register that has values.
#   cmake -DCOMPONENT_DIR=<folder> -DOUTPUT=<file> -P idf_script_mode.cmake
# The variables, and the macro that returns at once, are those of ESP-IDF's tools/cmake/scripts/component_get_requirements.cmake.
cmake_policy(SET CMP0057 NEW)

macro(idf_component_register)
    set(fields SRCS SRC_DIRS EXCLUDE_SRCS INCLUDE_DIRS PRIV_INCLUDE_DIRS LDFRAGMENTS REQUIRES PRIV_REQUIRES
        REQUIRED_IDF_TARGETS EMBED_FILES EMBED_TXTFILES)
    cmake_parse_arguments(_ "WHOLE_ARCHIVE" "KCONFIG;KCONFIG_PROJBUILD" "${fields}" "${ARGN}")
    set(registered "UNPARSED=${__UNPARSED_ARGUMENTS}\n")
    foreach(field IN LISTS fields)
        if(DEFINED __${field})
            string(APPEND registered "${field}=${__${field}}\n")
        endif()
    endforeach()
    file(WRITE "${OUTPUT}" "${registered}")
    return()
endmacro()

function(read_component)
    get_filename_component(COMPONENT_NAME "${COMPONENT_DIR}" NAME)
    set(COMPONENT_PATH "${COMPONENT_DIR}")
    include("${COMPONENT_DIR}/CMakeLists.txt")
endfunction()

set(CMAKE_BUILD_EARLY_EXPANSION 1)
read_component()
