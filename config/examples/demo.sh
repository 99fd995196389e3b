#!/bin/sh
# Run by `make demo`: demo.py, with the lab's Asterisk around it where PBX=asterisk asks for one.
set -eu
examples=$(dirname "$0")

case "$PBX" in
simulated)
    exec "$PYTHON" "$examples/demo.py" --config "$examples/demo.toml"
    ;;
asterisk)
    if ! "$PYTHON" -m tests.lab status >/dev/null 2>&1; then
        trap '"$PYTHON" -m tests.lab down' EXIT
        trap 'exit 130' INT TERM
    fi
    "$PYTHON" -m tests.lab up --version "$LAB_ASTERISK"
    "$PYTHON" "$examples/demo.py" --config "$examples/demo-asterisk.toml"
    ;;
*)
    echo "PBX is simulated or asterisk, not '$PBX'" >&2
    exit 2
    ;;
esac
