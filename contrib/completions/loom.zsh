#compdef loom

autoload -U is-at-least

_loom() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_loom_commands" \
"*::: :->loom" \
&& ret=0
    case $state in
    (loom)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:loom-command-$line[1]:"
        case $line[1] in
            (status)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'-a[Image layers, and what only lineage keeps, as well]' \
'--all[Image layers, and what only lineage keeps, as well]' \
'(--json)-q[Only ids, whole, one a line]' \
'(--json)--quiet[Only ids, whole, one a line]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(tree)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'-a[Every image layer on a line of its own]' \
'--all[Every image layer on a line of its own]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(lineage)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container or a snapshot:_default' \
&& ret=0
;;
(inspect)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container or a snapshot:_default' \
&& ret=0
;;
(pin)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container or a snapshot:_default' \
&& ret=0
;;
(unpin)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A snapshot:_default' \
&& ret=0
;;
(rm)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
'*::references -- Snapshots:_default' \
&& ret=0
;;
(snapshot)
_arguments "${_arguments_options[@]}" : \
'--name=[The snapshot'\''s name; without it, "<container>-<6 hex digits>"]:NEW:_default' \
'*--label=[A label for it; may be given more than once]:K=V:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container, or a writable snapshot:_default' \
&& ret=0
;;
(fork)
_arguments "${_arguments_options[@]}" : \
'--name=[The fork'\''s name; without it, "<container>-fork-<6 hex digits>"; with a count, "<NEW>-1" and on]:NEW:_default' \
'-c+[How many, all of one moment\: 1 to 1000]:N:_default' \
'--count=[How many, all of one moment\: 1 to 1000]:N:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--no-start[Leave them stopped]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container:_default' \
&& ret=0
;;
(clone)
_arguments "${_arguments_options[@]}" : \
'--name=[The container'\''s name; without it, "<container>-fork-<6 hex digits>"]:NEW:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--no-start[Leave it stopped]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A snapshot of a container:_default' \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container:_default' \
&& ret=0
;;
(completion)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':shell -- The shell:(bash zsh fish)' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_loom__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:loom-help-command-$line[1]:"
        case $line[1] in
            (status)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(ls)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(tree)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(lineage)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(inspect)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(pin)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(unpin)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(rm)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(snapshot)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(fork)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(clone)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(completion)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_loom_commands] )) ||
_loom_commands() {
    local commands; commands=(
'status:Show loomd'\''s version, its places, and how it branches' \
'ls:List snapshots, oldest first' \
'tree:Draw what was branched from what' \
'lineage:Show the way from a snapshot to its root' \
'inspect:Show all that is known of a snapshot, as JSON' \
'pin:Keep a snapshot whatever containerd removes, until it is unpinned' \
'unpin:End a pin; a snapshot that nothing else keeps goes with it' \
'rm:Remove snapshots that loom keeps' \
'snapshot:Make a snapshot of a container, which runs on' \
'fork:Make containers that continue from the state of a live one' \
'clone:Make a container whose files are a snapshot'\''s' \
'resume:Start the process of a container, or continue it where it is paused' \
'completion:Print a shell'\''s completions' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'loom commands' commands "$@"
}
(( $+functions[_loom__subcmd__clone_commands] )) ||
_loom__subcmd__clone_commands() {
    local commands; commands=()
    _describe -t commands 'loom clone commands' commands "$@"
}
(( $+functions[_loom__subcmd__completion_commands] )) ||
_loom__subcmd__completion_commands() {
    local commands; commands=()
    _describe -t commands 'loom completion commands' commands "$@"
}
(( $+functions[_loom__subcmd__fork_commands] )) ||
_loom__subcmd__fork_commands() {
    local commands; commands=()
    _describe -t commands 'loom fork commands' commands "$@"
}
(( $+functions[_loom__subcmd__help_commands] )) ||
_loom__subcmd__help_commands() {
    local commands; commands=(
'status:Show loomd'\''s version, its places, and how it branches' \
'ls:List snapshots, oldest first' \
'tree:Draw what was branched from what' \
'lineage:Show the way from a snapshot to its root' \
'inspect:Show all that is known of a snapshot, as JSON' \
'pin:Keep a snapshot whatever containerd removes, until it is unpinned' \
'unpin:End a pin; a snapshot that nothing else keeps goes with it' \
'rm:Remove snapshots that loom keeps' \
'snapshot:Make a snapshot of a container, which runs on' \
'fork:Make containers that continue from the state of a live one' \
'clone:Make a container whose files are a snapshot'\''s' \
'resume:Start the process of a container, or continue it where it is paused' \
'completion:Print a shell'\''s completions' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'loom help commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__clone_commands] )) ||
_loom__subcmd__help__subcmd__clone_commands() {
    local commands; commands=()
    _describe -t commands 'loom help clone commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__completion_commands] )) ||
_loom__subcmd__help__subcmd__completion_commands() {
    local commands; commands=()
    _describe -t commands 'loom help completion commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__fork_commands] )) ||
_loom__subcmd__help__subcmd__fork_commands() {
    local commands; commands=()
    _describe -t commands 'loom help fork commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__help_commands] )) ||
_loom__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'loom help help commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__inspect_commands] )) ||
_loom__subcmd__help__subcmd__inspect_commands() {
    local commands; commands=()
    _describe -t commands 'loom help inspect commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__lineage_commands] )) ||
_loom__subcmd__help__subcmd__lineage_commands() {
    local commands; commands=()
    _describe -t commands 'loom help lineage commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__ls_commands] )) ||
_loom__subcmd__help__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'loom help ls commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pin_commands] )) ||
_loom__subcmd__help__subcmd__pin_commands() {
    local commands; commands=()
    _describe -t commands 'loom help pin commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__resume_commands] )) ||
_loom__subcmd__help__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'loom help resume commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__rm_commands] )) ||
_loom__subcmd__help__subcmd__rm_commands() {
    local commands; commands=()
    _describe -t commands 'loom help rm commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__snapshot_commands] )) ||
_loom__subcmd__help__subcmd__snapshot_commands() {
    local commands; commands=()
    _describe -t commands 'loom help snapshot commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__status_commands] )) ||
_loom__subcmd__help__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'loom help status commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__tree_commands] )) ||
_loom__subcmd__help__subcmd__tree_commands() {
    local commands; commands=()
    _describe -t commands 'loom help tree commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__unpin_commands] )) ||
_loom__subcmd__help__subcmd__unpin_commands() {
    local commands; commands=()
    _describe -t commands 'loom help unpin commands' commands "$@"
}
(( $+functions[_loom__subcmd__inspect_commands] )) ||
_loom__subcmd__inspect_commands() {
    local commands; commands=()
    _describe -t commands 'loom inspect commands' commands "$@"
}
(( $+functions[_loom__subcmd__lineage_commands] )) ||
_loom__subcmd__lineage_commands() {
    local commands; commands=()
    _describe -t commands 'loom lineage commands' commands "$@"
}
(( $+functions[_loom__subcmd__ls_commands] )) ||
_loom__subcmd__ls_commands() {
    local commands; commands=()
    _describe -t commands 'loom ls commands' commands "$@"
}
(( $+functions[_loom__subcmd__pin_commands] )) ||
_loom__subcmd__pin_commands() {
    local commands; commands=()
    _describe -t commands 'loom pin commands' commands "$@"
}
(( $+functions[_loom__subcmd__resume_commands] )) ||
_loom__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'loom resume commands' commands "$@"
}
(( $+functions[_loom__subcmd__rm_commands] )) ||
_loom__subcmd__rm_commands() {
    local commands; commands=()
    _describe -t commands 'loom rm commands' commands "$@"
}
(( $+functions[_loom__subcmd__snapshot_commands] )) ||
_loom__subcmd__snapshot_commands() {
    local commands; commands=()
    _describe -t commands 'loom snapshot commands' commands "$@"
}
(( $+functions[_loom__subcmd__status_commands] )) ||
_loom__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'loom status commands' commands "$@"
}
(( $+functions[_loom__subcmd__tree_commands] )) ||
_loom__subcmd__tree_commands() {
    local commands; commands=()
    _describe -t commands 'loom tree commands' commands "$@"
}
(( $+functions[_loom__subcmd__unpin_commands] )) ||
_loom__subcmd__unpin_commands() {
    local commands; commands=()
    _describe -t commands 'loom unpin commands' commands "$@"
}

if [ "$funcstack[1]" = "_loom" ]; then
    _loom "$@"
else
    compdef _loom loom
fi
