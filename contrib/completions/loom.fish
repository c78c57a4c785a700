# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_loom_global_optspecs
    string join \n address= containerd= n/namespace= json h/help V/version
end

function __fish_loom_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_loom_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_loom_using_subcommand
    set -l cmd (__fish_loom_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c loom -n "__fish_loom_needs_command" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_needs_command" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_needs_command" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_needs_command" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_needs_command" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_needs_command" -s V -l version -d 'Print version'
complete -c loom -n "__fish_loom_needs_command" -f -a "status" -d 'Show loomd\'s version, its places, and how it branches'
complete -c loom -n "__fish_loom_needs_command" -f -a "ls" -d 'List snapshots, oldest first'
complete -c loom -n "__fish_loom_needs_command" -f -a "tree" -d 'Draw what was branched from what'
complete -c loom -n "__fish_loom_needs_command" -f -a "lineage" -d 'Show the way from a snapshot to its root'
complete -c loom -n "__fish_loom_needs_command" -f -a "inspect" -d 'Show all that is known of a snapshot, as JSON'
complete -c loom -n "__fish_loom_needs_command" -f -a "pin" -d 'Keep a snapshot whatever containerd removes, until it is unpinned'
complete -c loom -n "__fish_loom_needs_command" -f -a "unpin" -d 'End a pin; a snapshot that nothing else keeps goes with it'
complete -c loom -n "__fish_loom_needs_command" -f -a "rm" -d 'Remove snapshots that loom keeps'
complete -c loom -n "__fish_loom_needs_command" -f -a "snapshot" -d 'Make a snapshot of a container, which runs on'
complete -c loom -n "__fish_loom_needs_command" -f -a "fork" -d 'Make containers that continue from the state of a live one'
complete -c loom -n "__fish_loom_needs_command" -f -a "clone" -d 'Make a container whose files are a snapshot\'s'
complete -c loom -n "__fish_loom_needs_command" -f -a "rollback" -d 'Give a container the files of a snapshot of its own; what it had is kept'
complete -c loom -n "__fish_loom_needs_command" -f -a "promote" -d 'Give the container that a fork was made from the fork\'s files; what it had is kept'
complete -c loom -n "__fish_loom_needs_command" -f -a "resume" -d 'Start the process of a container, or continue it where it is paused'
complete -c loom -n "__fish_loom_needs_command" -f -a "commit" -d 'Make an image of a container, which runs on, or of a snapshot'
complete -c loom -n "__fish_loom_needs_command" -f -a "portable" -d 'Write what of an image only this node has, so that any tool can save and push it'
complete -c loom -n "__fish_loom_needs_command" -f -a "images" -d 'List the images that are on loom'
complete -c loom -n "__fish_loom_needs_command" -f -a "tag" -d 'Give an image another name'
complete -c loom -n "__fish_loom_needs_command" -f -a "save" -d 'Write an image as an OCI archive'
complete -c loom -n "__fish_loom_needs_command" -f -a "push" -d 'Push an image, with nerdctl'
complete -c loom -n "__fish_loom_needs_command" -f -a "diff" -d 'Show what differs between two states'
complete -c loom -n "__fish_loom_needs_command" -f -a "export" -d 'Write the files of a state, or an image, as an archive'
complete -c loom -n "__fish_loom_needs_command" -f -a "import" -d 'Make an image of an archive'
complete -c loom -n "__fish_loom_needs_command" -f -a "prune" -d 'Remove the snapshots that loom keeps by name, but for pinned ones'
complete -c loom -n "__fish_loom_needs_command" -f -a "df" -d 'Show what containers, snapshots and images take on disk'
complete -c loom -n "__fish_loom_needs_command" -f -a "limit" -d 'Set or end the limit of what a container may write'
complete -c loom -n "__fish_loom_needs_command" -f -a "check" -d 'Compare what is on disk, in the database, mounted and known to containerd'
complete -c loom -n "__fish_loom_needs_command" -f -a "operations" -d 'List operations, newest first: every branch is one'
complete -c loom -n "__fish_loom_needs_command" -f -a "operation" -d 'Show an operation: its steps, warnings and error'
complete -c loom -n "__fish_loom_needs_command" -f -a "cancel" -d 'Stop an operation at its next step, and undo it'
complete -c loom -n "__fish_loom_needs_command" -f -a "pool" -d 'Make, enlarge and show the place where forks cost nothing'
complete -c loom -n "__fish_loom_needs_command" -f -a "completion" -d 'Print a shell\'s completions'
complete -c loom -n "__fish_loom_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c loom -n "__fish_loom_using_subcommand status" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand status" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand status" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand status" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand status" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand ls" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand ls" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand ls" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand ls" -s a -l all -d 'Image layers, and what only lineage keeps, as well'
complete -c loom -n "__fish_loom_using_subcommand ls" -s q -l quiet -d 'Only ids, whole, one a line'
complete -c loom -n "__fish_loom_using_subcommand ls" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand ls" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand tree" -l format -d 'What to write' -r -f -a "text\t'For a terminal'
json\t'As --json'
dot\t'For Graphviz'
mermaid\t'For Mermaid, in Markdown'
svg\t'A picture'"
complete -c loom -n "__fish_loom_using_subcommand tree" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand tree" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand tree" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand tree" -s a -l all -d 'Every snapshot on a line of its own'
complete -c loom -n "__fish_loom_using_subcommand tree" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand tree" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand lineage" -l format -d 'What to write' -r -f -a "text\t'For a terminal'
json\t'As --json'
dot\t'For Graphviz'
mermaid\t'For Mermaid, in Markdown'
svg\t'A picture'"
complete -c loom -n "__fish_loom_using_subcommand lineage" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand lineage" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand lineage" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand lineage" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand lineage" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand inspect" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand inspect" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand inspect" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand inspect" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pin" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand pin" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand pin" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand pin" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand pin" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand unpin" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand unpin" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand unpin" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand unpin" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand unpin" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand rm" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand rm" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand rm" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand rm" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand rm" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l name -d 'The snapshot\'s name; without it, "<container>-<6 hex digits>"' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l label -d 'A label for what is made; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l ttl -d 'How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l consistency -d 'How whole the state is' -r -f -a "crash\t'One point in time, as after a power cut'
app\t'As agreed with the application: its labels loom.quiesce and loom.unquiesce name commands'"
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand snapshot" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand fork" -l name -d 'The fork\'s name; without it, "<container>-fork-<6 hex digits>"; with a count, "<NEW>-1" and on' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -s c -l count -d 'How many, all of one moment: 1 to 1000' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l resume -d 'When its process starts' -r -f -a "manual\t'With `loom resume`'
immediate\t'At once'"
complete -c loom -n "__fish_loom_using_subcommand fork" -s e -l env -d 'Set a variable, or drop one by its name alone; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -s p -l publish -d 'Publish a port, as nerdctl does; the source\'s are not. May be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l volumes -d 'What becomes of the source\'s named volumes' -r -f -a "share\t'It has them too'
clone\t'It has copies, of the moment of its state'"
complete -c loom -n "__fish_loom_using_subcommand fork" -l label -d 'A label for what is made; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l ttl -d 'How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l consistency -d 'How whole the state is' -r -f -a "crash\t'One point in time, as after a power cut'
app\t'As agreed with the application: its labels loom.quiesce and loom.unquiesce name commands'"
complete -c loom -n "__fish_loom_using_subcommand fork" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand fork" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand fork" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l no-start -d 'Leave it stopped: --resume manual'
complete -c loom -n "__fish_loom_using_subcommand fork" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand fork" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand clone" -l name -d 'The container\'s name; without it, "<container>-fork-<6 hex digits>"' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l resume -d 'When its process starts' -r -f -a "manual\t'With `loom resume`'
immediate\t'At once'"
complete -c loom -n "__fish_loom_using_subcommand clone" -s e -l env -d 'Set a variable, or drop one by its name alone; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -s p -l publish -d 'Publish a port, as nerdctl does; the source\'s are not. May be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l volumes -d 'What becomes of the source\'s named volumes' -r -f -a "share\t'It has them too'
clone\t'It has copies, of the moment of its state'"
complete -c loom -n "__fish_loom_using_subcommand clone" -l label -d 'A label for what is made; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l ttl -d 'How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand clone" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand clone" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l no-start -d 'Leave it stopped: --resume manual'
complete -c loom -n "__fish_loom_using_subcommand clone" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand clone" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand rollback" -l name -d 'The name of the snapshot that keeps what it had; without it, "<container>-<6 hex digits>"' -r
complete -c loom -n "__fish_loom_using_subcommand rollback" -l resume -d 'When its process starts' -r -f -a "manual\t'With `loom resume`'
immediate\t'At once'"
complete -c loom -n "__fish_loom_using_subcommand rollback" -l label -d 'A label for what is made; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand rollback" -l ttl -d 'How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m' -r
complete -c loom -n "__fish_loom_using_subcommand rollback" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand rollback" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand rollback" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand rollback" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand rollback" -l discard -d 'Keep nothing of what it had'
complete -c loom -n "__fish_loom_using_subcommand rollback" -l no-start -d 'Leave it stopped: --resume manual'
complete -c loom -n "__fish_loom_using_subcommand rollback" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand promote" -l name -d 'The name of the snapshot that keeps what it had; without it, "<container>-<6 hex digits>"' -r
complete -c loom -n "__fish_loom_using_subcommand promote" -l resume -d 'When its process starts' -r -f -a "manual\t'With `loom resume`'
immediate\t'At once'"
complete -c loom -n "__fish_loom_using_subcommand promote" -l label -d 'A label for what is made; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand promote" -l ttl -d 'How long what is made is kept unless it is pinned, such as 90s, 12h, 7d or 1h30m' -r
complete -c loom -n "__fish_loom_using_subcommand promote" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand promote" -l consistency -d 'How whole the state is' -r -f -a "crash\t'One point in time, as after a power cut'
app\t'As agreed with the application: its labels loom.quiesce and loom.unquiesce name commands'"
complete -c loom -n "__fish_loom_using_subcommand promote" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand promote" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand promote" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand promote" -l if-unchanged -d 'Refuse where the container has written since the fork, and say what'
complete -c loom -n "__fish_loom_using_subcommand promote" -l discard -d 'Keep nothing of what it had'
complete -c loom -n "__fish_loom_using_subcommand promote" -l no-start -d 'Leave it stopped: --resume manual'
complete -c loom -n "__fish_loom_using_subcommand promote" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand promote" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand resume" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand resume" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand resume" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand resume" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand resume" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand resume" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand commit" -s c -l change -d 'Change its configuration by an instruction of a Dockerfile; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand commit" -s m -l message -d 'What its history says of it' -r
complete -c loom -n "__fish_loom_using_subcommand commit" -s a -l author -d 'Its author, such as "Jane Doe <jane@example.com>"' -r
complete -c loom -n "__fish_loom_using_subcommand commit" -l compression -d 'How a portable one\'s layer is compressed' -r -f -a "zstd\t'Small and fast; every containerd reads it, and docker from 23.0'
gzip\t'What everything reads'"
complete -c loom -n "__fish_loom_using_subcommand commit" -l consistency -d 'How whole the state is' -r -f -a "crash\t'One point in time, as after a power cut'
app\t'As agreed with the application: its labels loom.quiesce and loom.unquiesce name commands'"
complete -c loom -n "__fish_loom_using_subcommand commit" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand commit" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand commit" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand commit" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand commit" -l portable -d 'Write its layer too, so that any tool can save and push it'
complete -c loom -n "__fish_loom_using_subcommand commit" -l replace -d 'Take over an image that has the name'
complete -c loom -n "__fish_loom_using_subcommand commit" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand commit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand portable" -l compression -d 'How its layer is compressed' -r -f -a "zstd\t'Small and fast; every containerd reads it, and docker from 23.0'
gzip\t'What everything reads'"
complete -c loom -n "__fish_loom_using_subcommand portable" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand portable" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand portable" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand portable" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand portable" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand portable" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand images" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand images" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand images" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand images" -s q -l quiet -d 'Only names, one a line'
complete -c loom -n "__fish_loom_using_subcommand images" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand images" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand tag" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand tag" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand tag" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand tag" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand tag" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand save" -l compression -d 'How a layer that only this node has is compressed' -r -f -a "zstd\t'Small and fast; every containerd reads it, and docker from 23.0'
gzip\t'What everything reads'"
complete -c loom -n "__fish_loom_using_subcommand save" -s o -l output -d 'A file; without it, standard output, where that is no terminal' -r -F
complete -c loom -n "__fish_loom_using_subcommand save" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand save" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand save" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand save" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand push" -l compression -d 'How a layer that only this node has is compressed' -r -f -a "zstd\t'Small and fast; every containerd reads it, and docker from 23.0'
gzip\t'What everything reads'"
complete -c loom -n "__fish_loom_using_subcommand push" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand push" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand push" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand push" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand diff" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand diff" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand diff" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand diff" -s p -l patch -d 'Print how text files differ, as `diff -u` does'
complete -c loom -n "__fish_loom_using_subcommand diff" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand diff" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand export" -l format -d 'What the archive is' -r -f -a "tar\t'The files, as they are'
oci\t'An image, as `docker load` and `nerdctl load` take it'"
complete -c loom -n "__fish_loom_using_subcommand export" -l image -d 'The image\'s name in an OCI archive; needed where REF is no image' -r
complete -c loom -n "__fish_loom_using_subcommand export" -l compression -d 'How the layers of an OCI archive are compressed that only this node has' -r -f -a "zstd\t'Small and fast; every containerd reads it, and docker from 23.0'
gzip\t'What everything reads'"
complete -c loom -n "__fish_loom_using_subcommand export" -s o -l output -d 'A file; without it, standard output, where that is no terminal' -r -F
complete -c loom -n "__fish_loom_using_subcommand export" -l consistency -d 'How whole the state is' -r -f -a "crash\t'One point in time, as after a power cut'
app\t'As agreed with the application: its labels loom.quiesce and loom.unquiesce name commands'"
complete -c loom -n "__fish_loom_using_subcommand export" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand export" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand export" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand export" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c loom -n "__fish_loom_using_subcommand import" -s c -l change -d 'Change its configuration by an instruction of a Dockerfile; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand import" -s m -l message -d 'What its history says of it' -r
complete -c loom -n "__fish_loom_using_subcommand import" -l snapshotter -d 'What containerd calls loom' -r
complete -c loom -n "__fish_loom_using_subcommand import" -l idempotency-key -d 'Done once under this key: the same command again prints the same again' -r
complete -c loom -n "__fish_loom_using_subcommand import" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand import" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand import" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand import" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand import" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand prune" -l older-than -d 'Only those that are older' -r
complete -c loom -n "__fish_loom_using_subcommand prune" -l label -d 'Only those with this label; an empty value fits any; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand prune" -l container -d 'Only states of this container, which may be gone' -r
complete -c loom -n "__fish_loom_using_subcommand prune" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand prune" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand prune" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand prune" -s a -l all -d 'All of them'
complete -c loom -n "__fish_loom_using_subcommand prune" -l dry-run -d 'Print what would be removed, and remove nothing'
complete -c loom -n "__fish_loom_using_subcommand prune" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand prune" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand df" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand df" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand df" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand df" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand df" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand limit" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand limit" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand limit" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand limit" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand limit" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand check" -l root -d 'This root, which no loomd has, instead of the one that loomd serves' -r -f -a "(__fish_complete_directories)"
complete -c loom -n "__fish_loom_using_subcommand check" -l pool -d 'Where that root\'s pool is, if it has one that loom did not make' -r -f -a "(__fish_complete_directories)"
complete -c loom -n "__fish_loom_using_subcommand check" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand check" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand check" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand check" -l repair -d 'Put right what needs no guess'
complete -c loom -n "__fish_loom_using_subcommand check" -l rebuild -d 'Make that root\'s database anew of what the layers say; the one that is there is kept'
complete -c loom -n "__fish_loom_using_subcommand check" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand check" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand operations" -l limit -d 'At most so many' -r
complete -c loom -n "__fish_loom_using_subcommand operations" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand operations" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand operations" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand operations" -s w -l watch -d 'Print those under way, and every change as it comes'
complete -c loom -n "__fish_loom_using_subcommand operations" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand operations" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand operation" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand operation" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand operation" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand operation" -s w -l watch -d 'Print every change as it comes, until it has ended'
complete -c loom -n "__fish_loom_using_subcommand operation" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand operation" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand cancel" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand cancel" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand cancel" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand cancel" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand cancel" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -f -a "create" -d 'Make the pool, and use it from then on; nothing is restarted'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -f -a "grow" -d 'Let the pool\'s image grow to a larger size'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -f -a "status" -d 'Show what the pool is, and how full'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -f -a "move" -d 'Bring the files of stopped containers that lie outside of the pool into it'
complete -c loom -n "__fish_loom_using_subcommand pool; and not __fish_seen_subcommand_from create grow status move help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -l size -d 'An image in loomd\'s root that may grow to this size, such as 50G [default: a fifth of what is free there, 5 to 30 GiB]' -r
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -l device -d 'A block device with nothing on it, which is made a btrfs' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -l path -d 'A directory on a btrfs that is not the one of loomd\'s root' -r -f -a "(__fish_complete_directories)"
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from grow" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from grow" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from grow" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from grow" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from grow" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from status" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from status" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from status" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from status" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from move" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from move" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from move" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from move" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from move" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make the pool, and use it from then on; nothing is restarted'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "grow" -d 'Let the pool\'s image grow to a larger size'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show what the pool is, and how full'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "move" -d 'Bring the files of stopped containers that lie outside of the pool into it'
complete -c loom -n "__fish_loom_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c loom -n "__fish_loom_using_subcommand completion" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand completion" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand completion" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand completion" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand completion" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "status" -d 'Show loomd\'s version, its places, and how it branches'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "ls" -d 'List snapshots, oldest first'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "tree" -d 'Draw what was branched from what'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "lineage" -d 'Show the way from a snapshot to its root'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "inspect" -d 'Show all that is known of a snapshot, as JSON'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "pin" -d 'Keep a snapshot whatever containerd removes, until it is unpinned'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "unpin" -d 'End a pin; a snapshot that nothing else keeps goes with it'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "rm" -d 'Remove snapshots that loom keeps'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "snapshot" -d 'Make a snapshot of a container, which runs on'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "fork" -d 'Make containers that continue from the state of a live one'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "clone" -d 'Make a container whose files are a snapshot\'s'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "rollback" -d 'Give a container the files of a snapshot of its own; what it had is kept'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "promote" -d 'Give the container that a fork was made from the fork\'s files; what it had is kept'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "resume" -d 'Start the process of a container, or continue it where it is paused'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "commit" -d 'Make an image of a container, which runs on, or of a snapshot'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "portable" -d 'Write what of an image only this node has, so that any tool can save and push it'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "images" -d 'List the images that are on loom'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "tag" -d 'Give an image another name'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "save" -d 'Write an image as an OCI archive'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "push" -d 'Push an image, with nerdctl'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "diff" -d 'Show what differs between two states'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "export" -d 'Write the files of a state, or an image, as an archive'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "import" -d 'Make an image of an archive'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "prune" -d 'Remove the snapshots that loom keeps by name, but for pinned ones'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "df" -d 'Show what containers, snapshots and images take on disk'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "limit" -d 'Set or end the limit of what a container may write'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "check" -d 'Compare what is on disk, in the database, mounted and known to containerd'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "operations" -d 'List operations, newest first: every branch is one'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "operation" -d 'Show an operation: its steps, warnings and error'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "cancel" -d 'Stop an operation at its next step, and undo it'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "pool" -d 'Make, enlarge and show the place where forks cost nothing'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "completion" -d 'Print a shell\'s completions'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone rollback promote resume commit portable images tag save push diff export import prune df limit check operations operation cancel pool completion help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c loom -n "__fish_loom_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "create" -d 'Make the pool, and use it from then on; nothing is restarted'
complete -c loom -n "__fish_loom_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "grow" -d 'Let the pool\'s image grow to a larger size'
complete -c loom -n "__fish_loom_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "status" -d 'Show what the pool is, and how full'
complete -c loom -n "__fish_loom_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "move" -d 'Bring the files of stopped containers that lie outside of the pool into it'
