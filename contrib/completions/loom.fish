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
complete -c loom -n "__fish_loom_needs_command" -f -a "resume" -d 'Start the process of a container, or continue it where it is paused'
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
complete -c loom -n "__fish_loom_using_subcommand tree" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand tree" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand tree" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand tree" -s a -l all -d 'Every image layer on a line of its own'
complete -c loom -n "__fish_loom_using_subcommand tree" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand tree" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand lineage" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand lineage" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand lineage" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand lineage" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand lineage" -s h -l help -d 'Print help'
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
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l label -d 'A label for it; may be given more than once' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand snapshot" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand snapshot" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand snapshot" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand fork" -l name -d 'The fork\'s name; without it, "<container>-fork-<6 hex digits>"; with a count, "<NEW>-1" and on' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -s c -l count -d 'How many, all of one moment: 1 to 1000' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand fork" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand fork" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand fork" -l no-start -d 'Leave them stopped'
complete -c loom -n "__fish_loom_using_subcommand fork" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand fork" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand clone" -l name -d 'The container\'s name; without it, "<container>-fork-<6 hex digits>"' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand clone" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand clone" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand clone" -l no-start -d 'Leave it stopped'
complete -c loom -n "__fish_loom_using_subcommand clone" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand clone" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand resume" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand resume" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand resume" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand resume" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand resume" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand completion" -l address -d 'loomd\'s ttrpc socket' -r -F
complete -c loom -n "__fish_loom_using_subcommand completion" -l containerd -d 'containerd\'s socket; without it, the one in loomd\'s configuration' -r -F
complete -c loom -n "__fish_loom_using_subcommand completion" -s n -l namespace -d 'containerd\'s namespace' -r
complete -c loom -n "__fish_loom_using_subcommand completion" -l json -d 'Print JSON for programs, errors too'
complete -c loom -n "__fish_loom_using_subcommand completion" -s h -l help -d 'Print help'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "status" -d 'Show loomd\'s version, its places, and how it branches'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "ls" -d 'List snapshots, oldest first'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "tree" -d 'Draw what was branched from what'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "lineage" -d 'Show the way from a snapshot to its root'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "inspect" -d 'Show all that is known of a snapshot, as JSON'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "pin" -d 'Keep a snapshot whatever containerd removes, until it is unpinned'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "unpin" -d 'End a pin; a snapshot that nothing else keeps goes with it'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "rm" -d 'Remove snapshots that loom keeps'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "snapshot" -d 'Make a snapshot of a container, which runs on'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "fork" -d 'Make containers that continue from the state of a live one'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "clone" -d 'Make a container whose files are a snapshot\'s'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "resume" -d 'Start the process of a container, or continue it where it is paused'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "completion" -d 'Print a shell\'s completions'
complete -c loom -n "__fish_loom_using_subcommand help; and not __fish_seen_subcommand_from status ls tree lineage inspect pin unpin rm snapshot fork clone resume completion help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
