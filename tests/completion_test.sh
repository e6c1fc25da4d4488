#!/usr/bin/env bash
# What a shell completes, driven as bash drives it: completion_test.sh PLAIT
set -euo pipefail
export LC_ALL=C
plait=$(realpath "$1")
source <("$plait" completion bash)
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"
touch dual.csv costs.toml
failures=0

fail() {
  printf 'FAILED %s\n' "$*"
  failures=$((failures + 1))
}

# What TAB offers behind these words. Bash makes a word of every "=" unless told otherwise.
offered() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  _plait
  if ((${#COMPREPLY[@]} > 0)); then printf '%s\n' "${COMPREPLY[@]}" | sort; fi
}

# OFFERED WORD…
expect() {
  local wanted=$1 found
  shift
  found=$(offered "$@" | tr '\n' ' ')
  [[ ${found% } == "$wanted" ]] || fail "${*@Q} offers '${found% }', needed '$wanted'"
}

inserts='insert-comm insert-reduce-grad insert-unshard'
expect simulate plait sim
expect 'dual.csv dualpipe dualpipe-v' plait make dual
expect 'dualpipe dualpipe-v' plait check --json dualp
expect "$inserts" plait opt --passes = in
expect "$inserts" plait opt --passes in
expect "${inserts//insert/--passes=insert}" plait opt --passes=in
expect 'insert-comm,place-recv' plait opt zbv --passes = insert-comm,pl
expect '3,place-recv' plait opt --passes = insert-unshard = 3,pl
expect 'csv json plait' plait make --format ''
expect 'csv json plait' plait make --format =
expect 'edge pair rank' plait check dual.csv --matching ''
expect 'block braid sequence' plait simulate --pairs ''
expect costs.toml plait simulate --costs = co
expect '' plait make --ranks ''
expect '--microbatches' plait make --mi
expect '--version' plait --v
expect 'bash fish zsh' plait completion ''

# Nothing that --help or the tables name is left out.
zsh=$("$plait" completion zsh)
fish=$("$plait" completion fish)
for command in $("$plait" --help | sed -n '/^Subcommands/,$s/^  \([a-z]\+\) .*/\1/p'); do
  expect "$command" plait "$command"
  [[ $zsh == *"        $command)"* ]] || fail "zsh lacks $command"
  [[ $fish == *" -a $command "* ]] || fail "fish lacks $command"
  for flag in $("$plait" "$command" --help | sed -n 's/^  \(-[^ ]*\).*/\1/p' | tr , ' '); do
    offered plait "$command" "$flag" | grep -qx -e "$flag" || fail "$command $flag is not offered"
    [[ $zsh == *"'$flag"[[=]* ]] || fail "zsh lacks $command $flag"
    [[ $flag != --* || $fish == *" -l ${flag#--} "* ]] || fail "fish lacks $command $flag"
  done
done
declare -A typed=([schedules]='make' [placements]='make --placement' [passes]='opt --passes')
for section in "${!typed[@]}"; do
  names=$("$plait" list | sed -n "/^$section/,/^[a-z]/s/^  \([^ ]*\) .*/\1/p")
  [[ -n $names ]] || fail "plait list has no $section"
  for name in $names; do
    # shellcheck disable=SC2086  # words
    offered plait ${typed[$section]} "$name" | grep -qx -e "$name" || fail "$name is not offered"
    [[ $zsh == *[\ \(]$name[\ \)\'\ ]* && $fish == *[\ \']$name[\ \'$'\n']* ]] || fail "zsh or fish lacks $name"
  done
done

bash -n <("$plait" completion bash)
for shell in zsh fish; do
  if ! command -v $shell >/dev/null; then continue; fi
  "$plait" completion $shell >script.$shell
  $shell -n script.$shell || fail "$shell cannot read it"
done
((failures == 0))
