# Sourced first by the scripts: with --help a script prints the comment at its top.
case "${1:-}" in
  -h | --help)
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    exit 0
    ;;
esac
# installed PACKAGE...: whether the Python at hand has them. An import of torch would take seconds.
installed() {
  python -c 'import importlib.util, sys; sys.exit(None in map(importlib.util.find_spec, sys.argv[1:]))' "$@"
}
