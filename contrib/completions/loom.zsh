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
'(--json)--format=[What to write]:FORMAT:((text\:"For a terminal"
json\:"As --json"
dot\:"For Graphviz"
mermaid\:"For Mermaid, in Markdown"
svg\:"A picture"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'-a[Every snapshot on a line of its own]' \
'--all[Every snapshot on a line of its own]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::reference -- Only what comes from this container, snapshot or image, and itself:_default' \
&& ret=0
;;
(lineage)
_arguments "${_arguments_options[@]}" : \
'(--json)--format=[What to write]:FORMAT:((text\:"For a terminal"
json\:"As --json"
dot\:"For Graphviz"
mermaid\:"For Mermaid, in Markdown"
svg\:"A picture"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A container, a snapshot or an image:_default' \
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
'*--label=[A label for what is made; may be given more than once]:K=V:_default' \
'--ttl=[How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m]:DURATION:_default' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--consistency=[How whole the state is]:HOW:((crash\:"One point in time, as after a power cut"
app\:"As agreed with the application\: its labels loom.quiesce and loom.unquiesce name commands"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A container, or a writable snapshot:_default' \
&& ret=0
;;
(fork)
_arguments "${_arguments_options[@]}" : \
'--name=[The fork'\''s name; without it, "<container>-fork-<6 hex digits>"; with a count, "<NEW>-1" and on]:NEW:_default' \
'-c+[How many, all of one moment\: 1 to 1000]:N:_default' \
'--count=[How many, all of one moment\: 1 to 1000]:N:_default' \
'--resume=[When its process starts]:WHEN:((manual\:"With \`loom resume\`"
immediate\:"At once"))' \
'*-e+[Set a variable, or drop one by its name alone; may be given more than once]:K[=V]:_default' \
'*--env=[Set a variable, or drop one by its name alone; may be given more than once]:K[=V]:_default' \
'*-p+[Publish a port, as nerdctl does; the source'\''s are not. May be given more than once]:PORT:_default' \
'*--publish=[Publish a port, as nerdctl does; the source'\''s are not. May be given more than once]:PORT:_default' \
'--volumes=[What becomes of the source'\''s named volumes]:HOW:((share\:"It has them too"
clone\:"It has copies, of the moment of its state"))' \
'*--label=[A label for what is made; may be given more than once]:K=V:_default' \
'--ttl=[How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m]:DURATION:_default' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--consistency=[How whole the state is]:HOW:((crash\:"One point in time, as after a power cut"
app\:"As agreed with the application\: its labels loom.quiesce and loom.unquiesce name commands"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'(--resume)--no-start[Leave it stopped\: --resume manual]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A container:_default' \
'*::command -- A command in place of the source'\''s:_default' \
&& ret=0
;;
(clone)
_arguments "${_arguments_options[@]}" : \
'--name=[The container'\''s name; without it, "<container>-fork-<6 hex digits>"]:NEW:_default' \
'--resume=[When its process starts]:WHEN:((manual\:"With \`loom resume\`"
immediate\:"At once"))' \
'*-e+[Set a variable, or drop one by its name alone; may be given more than once]:K[=V]:_default' \
'*--env=[Set a variable, or drop one by its name alone; may be given more than once]:K[=V]:_default' \
'*-p+[Publish a port, as nerdctl does; the source'\''s are not. May be given more than once]:PORT:_default' \
'*--publish=[Publish a port, as nerdctl does; the source'\''s are not. May be given more than once]:PORT:_default' \
'--volumes=[What becomes of the source'\''s named volumes]:HOW:((share\:"It has them too"
clone\:"It has copies, of the moment of its state"))' \
'*--label=[A label for what is made; may be given more than once]:K=V:_default' \
'--ttl=[How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m]:DURATION:_default' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'(--resume)--no-start[Leave it stopped\: --resume manual]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A snapshot of a container:_default' \
'*::command -- A command in place of the source'\''s:_default' \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'--name=[The name of the snapshot that keeps what it had; without it, "<container>-<6 hex digits>"]:KEEP:_default' \
'--resume=[When its process starts]:WHEN:((manual\:"With \`loom resume\`"
immediate\:"At once"))' \
'*--label=[A label for what is made; may be given more than once]:K=V:_default' \
'--ttl=[How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m]:DURATION:_default' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'(--name --label --ttl)--discard[Keep nothing of what it had]' \
'(--resume)--no-start[Leave it stopped\: --resume manual]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A container:_default' \
':snapshot -- A snapshot of it, of what it was forked from, or of a fork of it:_default' \
&& ret=0
;;
(promote)
_arguments "${_arguments_options[@]}" : \
'--name=[The name of the snapshot that keeps what it had; without it, "<container>-<6 hex digits>"]:KEEP:_default' \
'--resume=[When its process starts]:WHEN:((manual\:"With \`loom resume\`"
immediate\:"At once"))' \
'*--label=[A label for what is made; may be given more than once]:K=V:_default' \
'--ttl=[How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m]:DURATION:_default' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--consistency=[How whole the state is]:HOW:((crash\:"One point in time, as after a power cut"
app\:"As agreed with the application\: its labels loom.quiesce and loom.unquiesce name commands"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--if-unchanged[Refuse where the container has written since the fork, and say what]' \
'(--name --label --ttl)--discard[Keep nothing of what it had]' \
'(--resume)--no-start[Leave it stopped\: --resume manual]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A fork, which stays:_default' \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
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
(commit)
_arguments "${_arguments_options[@]}" : \
'*-c+[Change its configuration by an instruction of a Dockerfile; may be given more than once]:INSTRUCTION:_default' \
'*--change=[Change its configuration by an instruction of a Dockerfile; may be given more than once]:INSTRUCTION:_default' \
'-m+[What its history says of it]:TEXT:_default' \
'--message=[What its history says of it]:TEXT:_default' \
'-a+[Its author, such as "Jane Doe <jane@example.com>"]:AUTHOR:_default' \
'--author=[Its author, such as "Jane Doe <jane@example.com>"]:AUTHOR:_default' \
'--compression=[How a portable one'\''s layer is compressed]:HOW:((zstd\:"Small and fast; every containerd reads it, and docker from 23.0"
gzip\:"What everything reads"))' \
'--consistency=[How whole the state is]:HOW:((crash\:"One point in time, as after a power cut"
app\:"As agreed with the application\: its labels loom.quiesce and loom.unquiesce name commands"))' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--portable[Write its layer too, so that any tool can save and push it]' \
'--replace[Take over an image that has the name]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A container, or a snapshot:_default' \
':image -- The image'\''s name:_default' \
&& ret=0
;;
(portable)
_arguments "${_arguments_options[@]}" : \
'--compression=[How its layer is compressed]:HOW:((zstd\:"Small and fast; every containerd reads it, and docker from 23.0"
gzip\:"What everything reads"))' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':image -- An image:_default' \
&& ret=0
;;
(images)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'(--json)-q[Only names, one a line]' \
'(--json)--quiet[Only names, one a line]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(tag)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':image -- An image:_default' \
':name -- Its other name; an image that has it loses it:_default' \
&& ret=0
;;
(save)
_arguments "${_arguments_options[@]}" : \
'--compression=[How a layer that only this node has is compressed]:HOW:((zstd\:"Small and fast; every containerd reads it, and docker from 23.0"
gzip\:"What everything reads"))' \
'-o+[A file; without it, standard output, where that is no terminal]:FILE:_files' \
'--output=[A file; without it, standard output, where that is no terminal]:FILE:_files' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':image -- An image:_default' \
&& ret=0
;;
(push)
_arguments "${_arguments_options[@]}" : \
'--compression=[How a layer that only this node has is compressed]:HOW:((zstd\:"Small and fast; every containerd reads it, and docker from 23.0"
gzip\:"What everything reads"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':image -- An image:_default' \
'*::args -- What `nerdctl push` is given too:_default' \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'-p[Print how text files differ, as \`diff -u\` does]' \
'--patch[Print how text files differ, as \`diff -u\` does]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':from -- A container, a snapshot or an image:_default' \
'::to -- Another, which came later; without it, what A has changed since what it was made of:_default' \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
'--format=[What the archive is]:WHAT:((tar\:"The files, as they are"
oci\:"An image, as \`docker load\` and \`nerdctl load\` take it"))' \
'--image=[The image'\''s name in an OCI archive; needed where REF is no image]:NAME:_default' \
'--compression=[How the layers of an OCI archive are compressed that only this node has]:HOW:((zstd\:"Small and fast; every containerd reads it, and docker from 23.0"
gzip\:"What everything reads"))' \
'-o+[A file; without it, standard output, where that is no terminal]:FILE:_files' \
'--output=[A file; without it, standard output, where that is no terminal]:FILE:_files' \
'--consistency=[How whole the state is]:HOW:((crash\:"One point in time, as after a power cut"
app\:"As agreed with the application\: its labels loom.quiesce and loom.unquiesce name commands"))' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- A container, a snapshot or an image:_default' \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
'*-c+[Change its configuration by an instruction of a Dockerfile; may be given more than once]:INSTRUCTION:_default' \
'*--change=[Change its configuration by an instruction of a Dockerfile; may be given more than once]:INSTRUCTION:_default' \
'-m+[What its history says of it]:TEXT:_default' \
'--message=[What its history says of it]:TEXT:_default' \
'--snapshotter=[What containerd calls loom]:NAME:_default' \
'--idempotency-key=[Done once under this key\: the same command again prints the same again]:KEY:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
'::file -- A tar of files, or an OCI archive; "-" is standard input:_files' \
'::image -- The image'\''s name; an OCI archive may have one of its own:_default' \
&& ret=0
;;
(prune)
_arguments "${_arguments_options[@]}" : \
'--older-than=[Only those that are older]:DURATION:_default' \
'*--label=[Only those with this label; an empty value fits any; may be given more than once]:K=V:_default' \
'--container=[Only states of this container, which may be gone]:CONTAINER:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'(--older-than --label --container)-a[All of them]' \
'(--older-than --label --container)--all[All of them]' \
'--dry-run[Print what would be removed, and remove nothing]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(df)
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
(limit)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':reference -- A container:_default' \
':bytes -- The most that it may write, such as 512M or 10G, or "none":_default' \
&& ret=0
;;
(check)
_arguments "${_arguments_options[@]}" : \
'--root=[This root, which no loomd has, instead of the one that loomd serves]:DIR:_files -/' \
'--pool=[Where that root'\''s pool is, if it has one that loom did not make]:DIR:_files -/' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--repair[Put right what needs no guess]' \
'(--repair)--rebuild[Make that root'\''s database anew of what the layers say; the one that is there is kept]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(operations)
_arguments "${_arguments_options[@]}" : \
'(-w --watch)--limit=[At most so many]:N:_default' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'-w[Print those under way, and every change as it comes]' \
'--watch[Print those under way, and every change as it comes]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(operation)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'-w[Print every change as it comes, until it has ended]' \
'--watch[Print every change as it comes, until it has ended]' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- Its id, or the first four or more of its digits:_default' \
&& ret=0
;;
(cancel)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- Its id, or the first four or more of its digits:_default' \
&& ret=0
;;
(pool)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
":: :_loom__subcmd__pool_commands" \
"*::: :->pool" \
&& ret=0

    case $state in
    (pool)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:loom-pool-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
'(--device --path)--size=[An image in loomd'\''s root that may grow to this size, such as 50G \[default\: a fifth of what is free there, 5 to 30 GiB\]]:SIZE:_default' \
'(--path)--device=[A block device with nothing on it, which is made a btrfs]:DEVICE:_files' \
'--path=[A directory on a btrfs that is not the one of loomd'\''s root]:DIR:_files -/' \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(grow)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
':size -- The new size, such as 100G:_default' \
&& ret=0
;;
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
(move)
_arguments "${_arguments_options[@]}" : \
'--address=[loomd'\''s ttrpc socket]:PATH:_files' \
'--containerd=[containerd'\''s socket; without it, the one in loomd'\''s configuration]:PATH:_files' \
'-n+[containerd'\''s namespace]:NAME:_default' \
'--namespace=[containerd'\''s namespace]:NAME:_default' \
'--json[Print JSON for programs, errors too]' \
'-h[Print help]' \
'--help[Print help]' \
'*::containers -- Containers; without any, all of the namespace that are stopped:_default' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_loom__subcmd__pool__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:loom-pool-help-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(grow)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(move)
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
(rollback)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(promote)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(commit)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(portable)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(images)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(tag)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(save)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(push)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(diff)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(prune)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(df)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(limit)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(check)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(operations)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(operation)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(cancel)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(pool)
_arguments "${_arguments_options[@]}" : \
":: :_loom__subcmd__help__subcmd__pool_commands" \
"*::: :->pool" \
&& ret=0

    case $state in
    (pool)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:loom-help-pool-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(grow)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(move)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
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
'rollback:Give a container the files of a snapshot of its own; what it had is kept' \
'promote:Give the container that a fork was made from the fork'\''s files; what it had is kept' \
'resume:Start the process of a container, or continue it where it is paused' \
'commit:Make an image of a container, which runs on, or of a snapshot' \
'portable:Write what of an image only this node has, so that any tool can save and push it' \
'images:List the images that are on loom' \
'tag:Give an image another name' \
'save:Write an image as an OCI archive' \
'push:Push an image, with nerdctl' \
'diff:Show what differs between two states' \
'export:Write the files of a state, or an image, as an archive' \
'import:Make an image of an archive' \
'prune:Remove the snapshots that loom keeps by name, but for pinned ones' \
'df:Show what containers, snapshots and images take on disk' \
'limit:Set or end the limit of what a container may write' \
'check:Compare what is on disk, in the database, mounted and known to containerd' \
'operations:List operations, newest first\: every branch is one' \
'operation:Show an operation\: its steps, warnings and error' \
'cancel:Stop an operation at its next step, and undo it' \
'pool:Make, enlarge and show the place where forks cost nothing' \
'completion:Print a shell'\''s completions' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'loom commands' commands "$@"
}
(( $+functions[_loom__subcmd__cancel_commands] )) ||
_loom__subcmd__cancel_commands() {
    local commands; commands=()
    _describe -t commands 'loom cancel commands' commands "$@"
}
(( $+functions[_loom__subcmd__check_commands] )) ||
_loom__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'loom check commands' commands "$@"
}
(( $+functions[_loom__subcmd__clone_commands] )) ||
_loom__subcmd__clone_commands() {
    local commands; commands=()
    _describe -t commands 'loom clone commands' commands "$@"
}
(( $+functions[_loom__subcmd__commit_commands] )) ||
_loom__subcmd__commit_commands() {
    local commands; commands=()
    _describe -t commands 'loom commit commands' commands "$@"
}
(( $+functions[_loom__subcmd__completion_commands] )) ||
_loom__subcmd__completion_commands() {
    local commands; commands=()
    _describe -t commands 'loom completion commands' commands "$@"
}
(( $+functions[_loom__subcmd__df_commands] )) ||
_loom__subcmd__df_commands() {
    local commands; commands=()
    _describe -t commands 'loom df commands' commands "$@"
}
(( $+functions[_loom__subcmd__diff_commands] )) ||
_loom__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'loom diff commands' commands "$@"
}
(( $+functions[_loom__subcmd__export_commands] )) ||
_loom__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'loom export commands' commands "$@"
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
'rollback:Give a container the files of a snapshot of its own; what it had is kept' \
'promote:Give the container that a fork was made from the fork'\''s files; what it had is kept' \
'resume:Start the process of a container, or continue it where it is paused' \
'commit:Make an image of a container, which runs on, or of a snapshot' \
'portable:Write what of an image only this node has, so that any tool can save and push it' \
'images:List the images that are on loom' \
'tag:Give an image another name' \
'save:Write an image as an OCI archive' \
'push:Push an image, with nerdctl' \
'diff:Show what differs between two states' \
'export:Write the files of a state, or an image, as an archive' \
'import:Make an image of an archive' \
'prune:Remove the snapshots that loom keeps by name, but for pinned ones' \
'df:Show what containers, snapshots and images take on disk' \
'limit:Set or end the limit of what a container may write' \
'check:Compare what is on disk, in the database, mounted and known to containerd' \
'operations:List operations, newest first\: every branch is one' \
'operation:Show an operation\: its steps, warnings and error' \
'cancel:Stop an operation at its next step, and undo it' \
'pool:Make, enlarge and show the place where forks cost nothing' \
'completion:Print a shell'\''s completions' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'loom help commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__cancel_commands] )) ||
_loom__subcmd__help__subcmd__cancel_commands() {
    local commands; commands=()
    _describe -t commands 'loom help cancel commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__check_commands] )) ||
_loom__subcmd__help__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'loom help check commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__clone_commands] )) ||
_loom__subcmd__help__subcmd__clone_commands() {
    local commands; commands=()
    _describe -t commands 'loom help clone commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__commit_commands] )) ||
_loom__subcmd__help__subcmd__commit_commands() {
    local commands; commands=()
    _describe -t commands 'loom help commit commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__completion_commands] )) ||
_loom__subcmd__help__subcmd__completion_commands() {
    local commands; commands=()
    _describe -t commands 'loom help completion commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__df_commands] )) ||
_loom__subcmd__help__subcmd__df_commands() {
    local commands; commands=()
    _describe -t commands 'loom help df commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__diff_commands] )) ||
_loom__subcmd__help__subcmd__diff_commands() {
    local commands; commands=()
    _describe -t commands 'loom help diff commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__export_commands] )) ||
_loom__subcmd__help__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'loom help export commands' commands "$@"
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
(( $+functions[_loom__subcmd__help__subcmd__images_commands] )) ||
_loom__subcmd__help__subcmd__images_commands() {
    local commands; commands=()
    _describe -t commands 'loom help images commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__import_commands] )) ||
_loom__subcmd__help__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'loom help import commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__inspect_commands] )) ||
_loom__subcmd__help__subcmd__inspect_commands() {
    local commands; commands=()
    _describe -t commands 'loom help inspect commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__limit_commands] )) ||
_loom__subcmd__help__subcmd__limit_commands() {
    local commands; commands=()
    _describe -t commands 'loom help limit commands' commands "$@"
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
(( $+functions[_loom__subcmd__help__subcmd__operation_commands] )) ||
_loom__subcmd__help__subcmd__operation_commands() {
    local commands; commands=()
    _describe -t commands 'loom help operation commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__operations_commands] )) ||
_loom__subcmd__help__subcmd__operations_commands() {
    local commands; commands=()
    _describe -t commands 'loom help operations commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pin_commands] )) ||
_loom__subcmd__help__subcmd__pin_commands() {
    local commands; commands=()
    _describe -t commands 'loom help pin commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pool_commands] )) ||
_loom__subcmd__help__subcmd__pool_commands() {
    local commands; commands=(
'create:Make the pool, and use it from then on; nothing is restarted' \
'grow:Let the pool'\''s image grow to a larger size' \
'status:Show what the pool is, and how full' \
'move:Bring the files of stopped containers that lie outside of the pool into it' \
    )
    _describe -t commands 'loom help pool commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pool__subcmd__create_commands] )) ||
_loom__subcmd__help__subcmd__pool__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'loom help pool create commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pool__subcmd__grow_commands] )) ||
_loom__subcmd__help__subcmd__pool__subcmd__grow_commands() {
    local commands; commands=()
    _describe -t commands 'loom help pool grow commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pool__subcmd__move_commands] )) ||
_loom__subcmd__help__subcmd__pool__subcmd__move_commands() {
    local commands; commands=()
    _describe -t commands 'loom help pool move commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__pool__subcmd__status_commands] )) ||
_loom__subcmd__help__subcmd__pool__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'loom help pool status commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__portable_commands] )) ||
_loom__subcmd__help__subcmd__portable_commands() {
    local commands; commands=()
    _describe -t commands 'loom help portable commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__promote_commands] )) ||
_loom__subcmd__help__subcmd__promote_commands() {
    local commands; commands=()
    _describe -t commands 'loom help promote commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__prune_commands] )) ||
_loom__subcmd__help__subcmd__prune_commands() {
    local commands; commands=()
    _describe -t commands 'loom help prune commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__push_commands] )) ||
_loom__subcmd__help__subcmd__push_commands() {
    local commands; commands=()
    _describe -t commands 'loom help push commands' commands "$@"
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
(( $+functions[_loom__subcmd__help__subcmd__rollback_commands] )) ||
_loom__subcmd__help__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'loom help rollback commands' commands "$@"
}
(( $+functions[_loom__subcmd__help__subcmd__save_commands] )) ||
_loom__subcmd__help__subcmd__save_commands() {
    local commands; commands=()
    _describe -t commands 'loom help save commands' commands "$@"
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
(( $+functions[_loom__subcmd__help__subcmd__tag_commands] )) ||
_loom__subcmd__help__subcmd__tag_commands() {
    local commands; commands=()
    _describe -t commands 'loom help tag commands' commands "$@"
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
(( $+functions[_loom__subcmd__images_commands] )) ||
_loom__subcmd__images_commands() {
    local commands; commands=()
    _describe -t commands 'loom images commands' commands "$@"
}
(( $+functions[_loom__subcmd__import_commands] )) ||
_loom__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'loom import commands' commands "$@"
}
(( $+functions[_loom__subcmd__inspect_commands] )) ||
_loom__subcmd__inspect_commands() {
    local commands; commands=()
    _describe -t commands 'loom inspect commands' commands "$@"
}
(( $+functions[_loom__subcmd__limit_commands] )) ||
_loom__subcmd__limit_commands() {
    local commands; commands=()
    _describe -t commands 'loom limit commands' commands "$@"
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
(( $+functions[_loom__subcmd__operation_commands] )) ||
_loom__subcmd__operation_commands() {
    local commands; commands=()
    _describe -t commands 'loom operation commands' commands "$@"
}
(( $+functions[_loom__subcmd__operations_commands] )) ||
_loom__subcmd__operations_commands() {
    local commands; commands=()
    _describe -t commands 'loom operations commands' commands "$@"
}
(( $+functions[_loom__subcmd__pin_commands] )) ||
_loom__subcmd__pin_commands() {
    local commands; commands=()
    _describe -t commands 'loom pin commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool_commands] )) ||
_loom__subcmd__pool_commands() {
    local commands; commands=(
'create:Make the pool, and use it from then on; nothing is restarted' \
'grow:Let the pool'\''s image grow to a larger size' \
'status:Show what the pool is, and how full' \
'move:Bring the files of stopped containers that lie outside of the pool into it' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'loom pool commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__create_commands] )) ||
_loom__subcmd__pool__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool create commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__grow_commands] )) ||
_loom__subcmd__pool__subcmd__grow_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool grow commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__help_commands] )) ||
_loom__subcmd__pool__subcmd__help_commands() {
    local commands; commands=(
'create:Make the pool, and use it from then on; nothing is restarted' \
'grow:Let the pool'\''s image grow to a larger size' \
'status:Show what the pool is, and how full' \
'move:Bring the files of stopped containers that lie outside of the pool into it' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'loom pool help commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__help__subcmd__create_commands] )) ||
_loom__subcmd__pool__subcmd__help__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool help create commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__help__subcmd__grow_commands] )) ||
_loom__subcmd__pool__subcmd__help__subcmd__grow_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool help grow commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__help__subcmd__help_commands] )) ||
_loom__subcmd__pool__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool help help commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__help__subcmd__move_commands] )) ||
_loom__subcmd__pool__subcmd__help__subcmd__move_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool help move commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__help__subcmd__status_commands] )) ||
_loom__subcmd__pool__subcmd__help__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool help status commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__move_commands] )) ||
_loom__subcmd__pool__subcmd__move_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool move commands' commands "$@"
}
(( $+functions[_loom__subcmd__pool__subcmd__status_commands] )) ||
_loom__subcmd__pool__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'loom pool status commands' commands "$@"
}
(( $+functions[_loom__subcmd__portable_commands] )) ||
_loom__subcmd__portable_commands() {
    local commands; commands=()
    _describe -t commands 'loom portable commands' commands "$@"
}
(( $+functions[_loom__subcmd__promote_commands] )) ||
_loom__subcmd__promote_commands() {
    local commands; commands=()
    _describe -t commands 'loom promote commands' commands "$@"
}
(( $+functions[_loom__subcmd__prune_commands] )) ||
_loom__subcmd__prune_commands() {
    local commands; commands=()
    _describe -t commands 'loom prune commands' commands "$@"
}
(( $+functions[_loom__subcmd__push_commands] )) ||
_loom__subcmd__push_commands() {
    local commands; commands=()
    _describe -t commands 'loom push commands' commands "$@"
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
(( $+functions[_loom__subcmd__rollback_commands] )) ||
_loom__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'loom rollback commands' commands "$@"
}
(( $+functions[_loom__subcmd__save_commands] )) ||
_loom__subcmd__save_commands() {
    local commands; commands=()
    _describe -t commands 'loom save commands' commands "$@"
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
(( $+functions[_loom__subcmd__tag_commands] )) ||
_loom__subcmd__tag_commands() {
    local commands; commands=()
    _describe -t commands 'loom tag commands' commands "$@"
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
