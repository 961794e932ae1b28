#!/usr/bin/env bash
# Configures a firmware folder that `edgewake build` wrote and compiles each of its files against real ESP-IDF sources.
#
#   idf_check.sh FIRMWARE                      with an installed ESP-IDF (export.sh was sourced): builds and links whole
#   idf_check.sh FIRMWARE IDF TFLM NN ADF EXTRA [VERSION ...]
#                                              with git repositories (bare ones too) of esp-idf, esp-tflite-micro, esp-nn,
#                                              esp-adf (esp_codec_dev) and idf-extra-components (led_strip); versions are
#                                              tags of esp-idf, by default those that docs/firmware.md names
#
# Without Espressif's compiler it takes Debian's gcc-xtensa-lx106 with libnewlib-dev and
# libstdc++-arm-none-eabi-newlib, and reads each file for syntax and types alone, with ESP-IDF's own flags and headers.
# Sources whose text depends on this project's Kconfig are read once for each board, microphone and output of it, too.
# Components whose submodules are no part of the repository (mbedTLS, MQTT, TLSF, ...) are replaced by empty ones.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ $# -ge 1 ] || usage
firmware=$(cd "$1" && pwd)
[ -f "$firmware/components/edgewake_model/generated/ew_model_config.h" ] || {
    echo "$firmware holds no model: give the firmware folder that \`edgewake build\` writes" >&2
    exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# -eq 1 ]; then
    command -v idf.py > /dev/null || {
        echo "idf.py is not found: source ESP-IDF's export.sh, or give the repositories that the second form takes" >&2
        exit 2
    }
    cp -r "$firmware" "$work/project"
    rm -rf "$work/project/build" "$work/project/sdkconfig"
    idf.py -C "$work/project" set-target esp32s3 build
    echo "$(idf.py --version): built and linked whole"
    exit 0
fi
[ $# -ge 6 ] || usage
idf=$2 tflm=$3 nn=$4 adf=$5 extra=$6
shift 6
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(v5.3 v5.5 v6.0.2)

tool=$(command -v xtensa-lx106-elf-gcc) || {
    echo "xtensa-lx106-elf-gcc is not found: apt-get install gcc-xtensa-lx106 libnewlib-dev libstdc++-arm-none-eabi-newlib" >&2
    exit 2
}
python=${PYTHON:-python3}
"$python" -c 'import kconfgen' || {
    echo "$python has no kconfgen: pip install esp-idf-kconfig, or set PYTHON" >&2
    exit 2
}
# Debian's newlib with what differs in Espressif's.
cp -r /usr/include/newlib "$work/newlib"
sed -i 's/struct _reent \*const _global_impure_ptr/struct _reent *_global_impure_ptr/' "$work/newlib/sys/reent.h"
cxx=$(find "$work/newlib/c++" -maxdepth 1 -mindepth 1 | sort | tail -1)

# Names of Espressif's tools for Debian's: without the flags that the lx106's compiler does not have.
mkdir "$work/bin"
cat > "$work/bin/compiler" << EOF
#!/usr/bin/env bash
arguments=()
for argument in "\$@"; do
    case \$argument in
    -mdisable-hardware-atomics | -mdynconfig=* | -mtune=* | --specs=* | -specs=* | -fstrict-volatile-bitfields) ;;
    -std=gnu23) arguments+=(-std=gnu2x) ;;
    -std=gnu++26) arguments+=(-std=gnu++2b) ;;
    *) arguments+=("\$argument") ;;
    esac
done
exec $tool "\${arguments[@]}"
EOF
chmod +x "$work/bin/compiler"
for name in gcc g++; do ln -s compiler "$work/bin/xtensa-esp32s3-elf-$name"; done
for name in ar ranlib objcopy objdump nm size strip ld as readelf; do
    ln -s "${tool%gcc}$name" "$work/bin/xtensa-esp32s3-elf-$name"
done
export PATH="$work/bin:$PATH" IDF_COMPONENT_MANAGER=0 IDF_PYTHON_CHECK_CONSTRAINTS=no

# The sources of a repository at a commit, into a folder.
extract() {
    mkdir -p "$3"
    git -C "$1" archive "$2" "${@:4}" | tar -x -C "$3"
}

# A component without sources, with the include folders that exist.
empty() {
    local folders=()
    for folder in include port/include; do
        [ -d "$1/$folder" ] && folders+=("$folder")
    done
    mkdir -p "$1"
    echo "idf_component_register(INCLUDE_DIRS ${folders[*]:-})" > "$1/CMakeLists.txt"
}

check() {
    local version=$1 root=$work/$1
    echo "== ESP-IDF $version"
    extract "$idf" "$version" "$root/idf" components tools Kconfig CMakeLists.txt sdkconfig.rename .gitmodules \
        ':!components/bt' ':!tools/esp_app_trace' || {
        echo "$version: $idf does not have all files of components and tools" >&2
        return 1
    }
    git -C "$idf" config --blob "$version:.gitmodules" --get-regexp 'submodule\..*\.path' | cut -d' ' -f2 |
        sed -n 's|^components/\([^/]*\)/.*|\1|p' | sort -u | while read -r name; do
        empty "$root/idf/components/$name"
    done
    echo "${version#v}" > "$root/idf/version.txt"

    cp -r "$firmware" "$root/project"
    rm -rf "$root/project/build" "$root/project/sdkconfig" "$root/project/managed_components"
    extract "$tflm" HEAD "$root/project/components/esp-tflite-micro"
    extract "$nn" HEAD "$root/project/components/esp-nn"
    extract "$adf" HEAD:components/esp_codec_dev "$root/project/components/esp_codec_dev"
    extract "$extra" HEAD:led_strip "$root/project/components/led_strip"
    (cd "$root/project/components" && grep -H '^version' {esp-tflite-micro,esp-nn,esp_codec_dev,led_strip}/idf_component.yml)
    # Picolibc, the default from ESP-IDF 6 on, is not in Debian in a form that fits.
    [ ! -d "$root/idf/components/esp_libc" ] || echo CONFIG_LIBC_NEWLIB=y >> "$root/project/sdkconfig.defaults"
    # What the component manager would add from idf_component.yml.
    sed -i 's/PRIV_REQUIRES edgewake /&esp-tflite-micro esp-nn /' \
        "$root/project/components/edgewake_detector/CMakeLists.txt"
    rm -rf "$root"/project/components/*/examples "$root"/project/components/esp-nn/{tests,test_app}

    export IDF_PATH=$root/idf ESP_IDF_VERSION=${version#v}
    cmake -G Ninja -S "$root/project" -B "$root/build" \
        -DPYTHON="$(command -v "$python")" -DPYTHON_DEPS_CHECKED=1 -DIDF_TARGET=esp32s3 \
        -DSDKCONFIG="$root/sdkconfig" -DCMAKE_C_COMPILER_WORKS=1 -DCMAKE_CXX_COMPILER_WORKS=1 > "$root/configure.log" 2>&1 || {
        tail -40 "$root/configure.log"
        echo "$version: ESP-IDF's CMake does not configure the project" >&2
        return 1
    }
    "$python" "$here/idf_check.py" "$root/project" "$root/build" "$root/sdkconfig" "$work/newlib" "$cxx"
}

failed=()
for version in "${versions[@]}"; do
    check "$version" || failed+=("$version")
    rm -rf "${work:?}/$version"
done
[ ${#failed[@]} -eq 0 ] || {
    echo "failed: ${failed[*]}" >&2
    exit 1
}
echo "configured and compiled, for syntax and types alone: ${versions[*]}"
