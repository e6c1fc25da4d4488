#!/usr/bin/env bash
# What TAB offers in bash, and in zsh and fish where they are installed: completion_test.sh PLAIT
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
  _plait "$plait"
  if ((${#COMPREPLY[@]} > 0)); then printf '%s\n' "${COMPREPLY[@]}" | sort; fi
}

# OFFERED WORD…
expect() {
  local wanted=$1 found
  shift
  found=$(offered "$@" | tr '\n' ' ')
  [[ ${found% } == "$wanted" ]] || fail "${*@Q} offers '${found% }', needed '$wanted'"
}

inserts='insert-comm insert-reduce-grad insert-reduce-wait insert-send-wait insert-unshard'
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
expect run.steps= plait train job.toml --set run.ste
expect check plait braid c
expect '--microbatches' plait make --mi
expect '--version' plait --v
expect 'bash fish zsh' plait completion ''

# Nothing that --help or the tables name is left out.
for command in $("$plait" --help | sed -n '/^Subcommands/,$s/^  \([a-z]\+\) .*/\1/p'); do
  expect "$command" plait "$command"
  for flag in $("$plait" "$command" --help | sed -n 's/^  \(-[^ ]*\).*/\1/p' | tr , ' '); do
    offered plait "$command" "$flag" | grep -qx -e "$flag" || fail "$command $flag is not offered"
  done
done
declare -A typed=([schedules]='make' [placements]='make --placement' [passes]='opt --passes')
for section in "${!typed[@]}"; do
  names=$("$plait" list | sed -n "/^$section/,/^[a-z]/s/^  \([^ ]*\) .*/\1/p")
  [[ -n $names ]] || fail "plait list has no $section"
  for name in $names; do
    # shellcheck disable=SC2086  # words
    offered plait ${typed[$section]} "$name" | grep -qx -e "$name" || fail "$name is not offered"
  done
done

PATH=$(dirname "$plait"):$PATH

# OFFERED LINE: what fish lists behind the line, without descriptions.
expect_in_fish() {
  local found
  found=$(fish --no-config -c "plait completion fish | source; complete -C '$2'" | cut -f1 | sort | tr '\n' ' ')
  [[ ${found% } == "$1" ]] || fail "fish: '$2' offers '${found% }', needed '$1'"
}
if command -v fish >/dev/null; then
  expect_in_fish simulate 'plait sim'
  expect_in_fish 'dual.csv dualpipe dualpipe-v' 'plait make dual'
  expect_in_fish "$inserts" 'plait opt --passes in'
  expect_in_fish "${inserts//insert/--passes=insert}" 'plait opt --passes=in'
  expect_in_fish '--passes=insert-comm,place-recv' 'plait opt zbv --passes=insert-comm,pl'
  expect_in_fish --costs=costs.toml 'plait simulate --costs=co'
  expect_in_fish --microbatches 'plait make --mi'
  expect_in_fish '' 'plait make --ranks '
fi

# Types a line and TAB into a zsh at a terminal, since it completes nowhere else, and prints what it has become.
cat >type.zsh <<'ZSH'
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source <(plait completion zsh)"
zpty -w shell 'show() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N show; bindkey "^G" show'
zpty -w shell 'zle-line-init() { print ready-$((1+1)) }; zle -N zle-line-init'
zpty -r -m shell text "*ready-2*"
zpty -w -n shell "$1"$'\t\x07'
zpty -r -m shell text "*<*>*"
print -r -- "${${text%>*}##*<}"
ZSH
# LINE COMPLETED
expect_in_zsh() {
  local found
  found=$(timeout 30 zsh -f type.zsh "$1" || true)
  [[ $found == "$2" ]] || fail "zsh: '$1' becomes '$found', needed '$2'"
}
if command -v zsh >/dev/null; then
  expect_in_zsh 'plait sim' 'plait simulate '
  expect_in_zsh 'plait opt --passes insert-c' 'plait opt --passes insert-comm'
  expect_in_zsh 'plait opt --passes=insert-comm,place-r' 'plait opt --passes=insert-comm,place-recv'
  expect_in_zsh 'plait simulate --costs=co' 'plait simulate --costs=costs.toml '
  expect_in_zsh 'plait show dual.' 'plait show dual.csv '
  expect_in_zsh 'plait make --mi' 'plait make --microbatches '
fi
((failures == 0))
