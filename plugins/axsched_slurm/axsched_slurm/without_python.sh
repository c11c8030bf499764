# A node without Python runs a script all the same: the worker's part, as far as bash can play it.
# It ends the script's process group only, and leaves time limits and cancelling to Slurm.
restart=${SLURM_RESTART_COUNT:-0} claim=claim start=$(date +%s)
if [ "$restart" -gt 0 ]; then
    if grep -qs '"by"' claim; then exit 75; fi # the driver has taken the job back
    claim=claim.$restart
    for file in result.json progress.jsonl stdout.log stderr.log stopped.json; do
        if [ -e $file ]; then mv $file $file.$((restart - 1)); fi
    done
fi
# With noclobber the shell makes a file as the worker does: whoever comes second has not made it.
set -C
if ! printf '{"pid": %d, "host": "%s", "restart": %d}' $$ "$HOSTNAME" "$restart" 2>/dev/null >$claim
then exit 75; fi
set +C

ended() { # name of the file, exit code, signal, cause, message
    printf '{"exit_code": %s, "signal": %s, "cause": %s, "message": "%s", "start": %s, "end": %s, "host": "%s"}' \
        "$2" "$3" "$4" "$5" "$start" "$(date +%s)" "$HOSTNAME" >"$1.tmp" && mv "$1.tmp" "$1"
}

told='' child=''
# Where Slurm's SIGTERM reaches all processes, it is not sent to them a second time.
all=''
if grep -qs '"signals_all": true' job.json; then all=yes; fi
trap 'told=yes; [ -n "$all" ] || [ -z "$child" ] || kill -TERM -$child 2>/dev/null' TERM
for name in HUP INT QUIT USR1 USR2 ALRM VTALRM PROF IO PWR URG WINCH XCPU; do
    trap "[ -z \"\$child\" ] || kill -$name \$child 2>/dev/null" $name
done
set -m # the script gets a process group of its own
bash ./job.sh </dev/null >>stdout.log 2>>stderr.log &
child=$!
set +m
printf '{"pid": %d, "host": "%s"}' $$ "$HOSTNAME" >pid.json
wait $child
code=$?
while kill -0 $child 2>/dev/null; do # a signal has ended the wait, not the script
    wait $child
    code=$?
done
kill -KILL -$child 2>/dev/null
if [ -e cancel ]; then
    ended exit.json null null '"CANCELLED"' cancelled
elif [ $told ] && ! { [ $code = 0 ] && [ -e result.json ]; }; then
    ended stopped.json null null '"SIGNAL"' 'told to stop (SIGTERM)'
elif [ $code = 0 ]; then
    ended exit.json 0 null null ''
elif [ $code -gt 128 ]; then
    ended exit.json null $((code - 128)) '"SIGNAL"' "killed by signal $((code - 128))"
else
    ended exit.json $code null '"EXIT_CODE"' "ended with exit code $code"
fi
exit $code
