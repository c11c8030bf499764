#!/bin/sh
# A "simulation" that knows nothing of Ax or axsched: parameters in a JSON file, results in
# another. It computes the range of a ball thrown at an angle, with air resistance.
set -eu
echo "parameters: $(cat "$AXSCHED_PARAMS_FILE")"   # goes to stdout.log in the trial's folder

number() { # the value of one parameter
    sed -n "s/.*\"$1\": *\([-+.0-9eE]*\).*/\1/p" "$AXSCHED_PARAMS_FILE"
}

awk -v angle="$(number angle)" -v speed="$(number speed)" -v drag="${DRAG:-0.01}" 'BEGIN {
    radians = angle * atan2(0, -1) / 180
    vx = speed * cos(radians); vy = speed * sin(radians); dt = 0.001
    while (y >= 0) {
        v = sqrt(vx * vx + vy * vy)
        vx -= drag * v * vx * dt; vy -= (9.81 + drag * v * vy) * dt
        x += vx * dt; y += vy * dt
    }
    printf "{\"range\": %.4f}\n", x
}' > "$AXSCHED_RESULT_FILE"
