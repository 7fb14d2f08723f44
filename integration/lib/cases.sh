# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Named cases, counted. A file of tests/ defines functions `case_<name>`; each runs in a shell of its own with a
# time limit, and its output is shown if it fails. An array `each_<name>` makes one case of every element, which
# the function gets as its argument. `suite_setup`, if defined, runs before the first case: when it fails, every
# case of the file fails. What a case measured and says with `note` is shown in any case. A function `suite_lacks` says
# what this machine lacks for the file, if anything: then its cases are skipped, and that is said. A case that only then
# sees what is lacking says so with `skip`. What was skipped is counted.

# A case that takes longer hangs. In seconds.
readonly CASE_SECONDS=900

# Exit code of a case that was skipped.
readonly SKIPPED=77

# run_suite FILE: runs the cases and adds a line "passed", "failed" or "skipped" for each to $work/results.
run_suite() {
	local file=$1 suite name missing broken=""
	suite=$(basename "$file" .sh)
	missing=$(run_in_shell "$file" suite_lacks)
	if [[ -n $missing ]]; then
		say "skip $suite: $missing"
		list_cases "$file" | while read -r name; do ! is_asked_for "$suite" "$name" || say skipped; done >>"$work/results"
		return
	fi
	if ! run_in_shell "$file" suite_setup >"$work/output" 2>&1; then
		broken=yes
		report FAIL "$suite/setup" 0 "$work/output"
	fi
	while read -r name; do
		run_case "$file" "$suite" "$name" "$broken"
	done < <(list_cases "$file")
	run_in_shell "$file" suite_teardown >"$work/output" 2>&1 || report FAIL "$suite/teardown" 0 "$work/output"
}

# Lines of "name" or "name argument", in the order of the file.
list_cases() {
	bash -c 'source "$1" && source "$2" && list_cases_here "$2"' - "$integration/lib.sh" "$1"
}

list_cases_here() {
	local name argument
	while read -r name; do
		if declare -p "each_$name" >/dev/null 2>&1; then
			local -n arguments="each_$name"
			for argument in "${arguments[@]}"; do say "$name $argument"; done
		else
			say "$name"
		fi
	done < <(grep -oE '^case_[a-z0-9_]+' "$1" | sed 's/^case_//')
}

# run_case FILE SUITE "NAME [ARGUMENT]" BROKEN
run_case() {
	local label="$2/${3/ /:}" start end verdict=ok code=0
	local -a words=("${3%% *}")
	[[ $3 != *' '* ]] || words+=("${3#* }")
	is_asked_for "$2" "$3" || return 0
	start=${EPOCHREALTIME/./}
	if [[ -n $4 ]]; then
		verdict=FAIL
		say "its setup failed" >"$work/output"
	else
		run_in_shell "$1" "case_${words[0]}" "${words[@]:1}" >"$work/output" 2>&1 || code=$?
		case $code in
		0) ;;
		"$SKIPPED") verdict=skip ;;
		*) verdict=FAIL ;;
		esac
	fi
	end=${EPOCHREALTIME/./}
	report "$verdict" "$label" $((end - start)) "$work/output"
}

# is_asked_for SUITE "NAME [ARGUMENT]"
is_asked_for() {
	local label="$1/${2/ /:}"
	[[ -z ${ONLY:-} || $label =~ $ONLY ]]
}

# skip REASON: ends the case that runs, which cannot be had on this machine.
skip() {
	note "skipped: $*"
	exit "$SKIPPED"
}

run_in_shell() { timeout --kill-after=10 "$CASE_SECONDS" bash "$integration/lib/case" "$@" </dev/null; }

# note TEXT: a line beneath the verdict on the case that runs.
note() { say "$*" | tee -a "$work/notes"; }

# report VERDICT LABEL MICROSECONDS OUTPUT
report() {
	printf '%-4s %s (%d.%02d s)\n' "$1" "$2" $(($3 / 1000000)) $(($3 / 10000 % 100))
	if [[ -s $work/notes ]]; then sed 's/^/     = /' "$work/notes"; fi
	rm -f "$work/notes"
	case $1 in
	ok) say passed >>"$work/results" ;;
	skip) say skipped >>"$work/results" ;;
	*)
		say failed >>"$work/results"
		tail -c 16384 "$4" | sed 's/^/     | /'
		;;
	esac
}

# The last line, and the exit code.
summary() {
	local passed failed skipped
	passed=$(grep -cx passed "$work/results" || true)
	failed=$(grep -cx failed "$work/results" || true)
	skipped=$(grep -cx skipped "$work/results" || true)
	say "$passed passed, $failed failed, $skipped skipped"
	((failed == 0 && passed > 0))
}
