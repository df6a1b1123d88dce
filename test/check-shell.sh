#!/bin/sh
# Checks every shell script of the repository, by its name or by its first line: shellcheck and the
# format of shfmt. Installs nothing: where a tool is missing it says so and goes on, but not in CI.
set -eu
cd "$(dirname "$0")/.."

scripts=$(
    git ls-files --cached --others --exclude-standard | while read -r file; do
        [ -f "$file" ] || continue
        case $file in
        *.sh) echo "$file" ;;
        *.*) ;;
        *) if head -n 1 "$file" | grep -Eaq '^#!.*\bsh\b|^#!.*\bbash\b'; then echo "$file"; fi ;;
        esac
    done
)

# check TOOL ARG...: with all scripts behind the arguments
check() {
    if command -v "$1" >/dev/null; then
        # shellcheck disable=SC2086 # a list of paths; none of them has a space
        "$@" $scripts
    elif [ "${CI:-}" = true ]; then
        echo "check-shell: $1 is missing" >&2
        return 1
    else
        echo "check-shell: skipped, since $1 is missing: apt-get install $1"
    fi
}

check shellcheck
check shfmt -d -i 4
