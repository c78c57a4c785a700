//! The longer texts of `--help`: what an example teaches better than a flag's description.

/// Over the flags that every verb takes.
pub(super) const GLOBAL: &str = "Global options";

/// Below `loom --help`.
pub(super) const LOOM: &str = "\
References:
  container:[NAMESPACE/]NAME   a container, by its name, its id or the beginning of its id
  snapshot:NAME                a snapshot, by the name that loom keeps it under
  image:NAME                   an image that is on loom
  NAME                         a container, else a snapshot's name, else a snapshot's id or the
                               first four or more of its digits, else an image
  What fits two things is refused with a list of both.

Examples:
  loom fork web                        one more \"web\", from where it stands now
  loom fork web --name try --count 3   try-1, try-2 and try-3, all of one moment
  loom snapshot web --name before      remember this state; \"web\" runs on
  loom clone before --name again       a container with that state
  loom rollback web before             \"web\" has that state again; what it had is kept
  loom promote try-2                   \"web\" goes on from where \"try-2\" stands
  loom diff before web                 what \"web\" has changed since
  loom commit web app:v2               an image of it, at once: `nerdctl run --snapshotter loom app:v2`
  loom push app:v2                     written as a layer then, and pushed
  loom operations                      what was done, and what is under way
  loom pin before                      keep it, whatever is removed
  loom tree                            what was branched from what
  loom ls --json | jq -r '.[].id'      the same for programs
  loom pool create                     give forks a place where they cost nothing

Exit status:
  0  done
  1  failed, for any reason that is not below
  2  wrong usage: an unknown verb or flag, or a reference that can mean nothing or two things
  3  not found
  4  conflict or precondition: it already exists, it is pinned, its state does not allow it
  5  unavailable: loomd, or containerd behind it, does not answer

Ctrl-C while a branch is under way has loomd undo it, and waits for that (1). A second one does not \
wait (130).";

/// Below `loom ls --help`.
pub(super) const LS: &str = "\
FROM is what a snapshot was branched from, else its parent. A container in another namespace than \
--namespace is shown as NAMESPACE/NAME.

Examples:
  loom ls
  loom ls --all --json | jq '.[] | select(.pinned) | .name'
  loom rm $(loom ls --json | jq -r '.[] | select(.labels.job == \"nightly\") | .id')";

/// Below `loom df --help`.
pub(super) const DF: &str = "\
OWN is what would come free were it alone removed, SHARED the rest of what it stands on: several that share \
it each show it. The second table counts each byte once: what all layers in a place take, what was removed \
and is not reclaimed yet, and what the filesystem itself says. That is more by what it keeps beside files, and by \
what others have there.

\"-\" was not measured, and \"≥\" not to its end: loomd measures for twenty seconds at most.

Examples:
  loom df
  loom df --json | jq '.usage | sort_by(-.exclusive) | .[0].name'";

/// Below `loom limit --help`.
pub(super) const LIMIT: &str = "\
It holds from now on, also while the container runs: a write behind it fails with \"disk quota exceeded\", \
deleting always works. What the container has written counts as long as it lies on disk: what a snapshot or \
a fork of it still has is not free when the container deletes it. A fork starts at nothing, under the same \
limit.

A limit is kept in a pool, and by XFS or ext4 with project quotas; elsewhere it is refused.

Examples:
  loom limit web 10G
  loom limit web none";

/// Below `loom tree --help`.
pub(super) const TREE: &str = "\
A snapshot hangs below its source, else below its parent; the oldest comes first. OWN is what would \
come free were it alone removed, SHARED the rest of what it stacks; \"-\" is not known, since loomd \
measures for two seconds at most: ask again. \"on IMAGE\" names the parent of one that hangs elsewhere. \
\"gone\" is a snapshot that was removed and that only its descendants' lineage remembers.

More than 16 that are alike are one line, and so are the layers of an image, unless --all is given. A \
narrow terminal is shown less of each.

With --json it is a flat array in the order of the drawing; \"source\" and \"parent\" tell its shape.

Examples:
  loom tree
  loom tree web
  loom tree --format svg > tree.svg
  loom tree --format dot | dot -Tpdf > tree.pdf";

/// Below `loom lineage --help`.
pub(super) const LINEAGE: &str = "\
OWN is what would come free were it alone removed, SHARED the rest of what it stacks.

Examples:
  loom lineage web
  loom lineage web --format mermaid";

/// Below `loom rm --help`.
pub(super) const RM: &str = "\
A snapshot that containerd has a key for is containerd's to remove (nerdctl rm, nerdctl rmi), and a \
pinned one must be unpinned first. What cannot be removed does not keep the others from it; the exit \
status is then that of the first failure.";

/// Below `loom check --help`.
pub(super) const CHECK: &str = "\
A finding has a code, what it is about, the bytes that it takes where nothing refers to it, and what is \
wrong. REPAIR is \"possible\" for what --repair would put right, \"done\" for what it has put right, and \
\"none\" for what cannot be without a guess: the text says what can be done. --repair removes only what \
nothing refers to.

Without --root the loomd that runs is asked, and what containerd knows is compared too. With --root the \
root must have no loomd: for one that refuses to start, or whose database is gone. --rebuild makes loom.db \
anew of what each layer says of itself, and keeps the one before as loom.db.TIME; no layer is moved or \
removed. Operations are not known afterwards.

Exit status: 0 where all agrees, or was put right; 1 where something is left.

Examples:
  loom check
  loom check --repair
  loom check --json | jq -r '.[] | select(.repair == \"none\") | .what'
  loom check --root /var/lib/loom --pool /srv/loom-pool --rebuild";

/// Below `loom snapshot --help`.
pub(super) const SNAPSHOT: &str = "\
The container is paused around the last step only; how long is told on stderr. With --consistency app \
the command in its label loom.quiesce (a JSON array, such as '[\"pg_ctl\",\"stop\"]') is run in it \
before, and that in loom.unquiesce after.

Examples:
  loom snapshot web --name before-upgrade
  loom snapshot web --label job=nightly --ttl 7d
  loom snapshot db --consistency app
  loom rollback web before-upgrade";

/// Below `loom fork --help`.
pub(super) const FORK: &str = "\
A line for each fork: its name and its process. How long the source stood still is told on stderr. \
Where single forks fail, they are listed on stderr, the others stay, and the exit status is 1.

A fork of a container of nerdctl's is made by nerdctl, and is one of its own: it has its networks and \
named volumes. It has none of its ports, which are taken: -p publishes others. An empty label drops \
the source's.

Examples:
  loom fork web
  loom fork web --name try --count 8 --ttl 1h
  loom fork web --name debug --env LOG=debug --env PROXY -- /bin/server --verbose
  loom fork shop --publish 8081:80 --volumes clone
  loom fork container:k8s.io/web --no-start";

/// Below `loom clone --help`.
pub(super) const CLONE: &str = "\
Examples:
  loom clone before-upgrade
  loom clone snapshot:before-upgrade --name web-old --no-start
  loom clone before-upgrade -- /bin/sh -c 'check /data'";

/// Below `loom rollback --help`.
pub(super) const ROLLBACK: &str = "\
What the container had is kept as a snapshot, whose name is told on stderr: roll back to that one, and \
you are where you were. A running container is stopped, and started with its new content; a stopped one \
stays stopped. The snapshot must be of its own lineage: `loom lineage`, `loom tree`.

Examples:
  loom rollback web before-upgrade
  loom rollback web before-upgrade --name after-upgrade
  loom rollback web before-upgrade --discard --no-start";

/// Below `loom promote --help`.
pub(super) const PROMOTE: &str = "\
What the container had is kept as a snapshot, as with `loom rollback`. The fork stays as it is and runs \
on. --if-unchanged refuses where the container has written since the fork was made, and names some of \
the files.

Examples:
  loom fork web --name try             try something in \"try\"; then, if it is good:
  loom promote try --if-unchanged
  nerdctl rm --force try";

/// Below `loom commit --help`.
pub(super) const COMMIT: &str = "\
It costs a snapshot and moves no bytes: the container is paused around the last step only; how long is \
told on stderr. The image is nerdctl's like any other: run, images, inspect, history, rmi. But its top \
layer is this node's alone until `loom portable`, `loom save` or `loom push` writes it: until then \
nerdctl cannot save, push or tag it (`loom tag` can). --portable writes it at once.

Its configuration is that of the container's image, with the container's own process, changed by -c as \
`docker commit` does: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME \
and WORKDIR.

Examples:
  loom commit web app:v2
  loom commit web app:v2 -m 'dependencies' -a 'Jane Doe' -c 'ENV MODE=test' -c 'CMD [\"/bin/run\"]'
  loom commit snapshot:before-upgrade app:old --replace
  loom commit db registry.example.com/team/db:seeded --consistency app --portable";

/// Below `loom portable --help`.
pub(super) const PORTABLE: &str = "\
Everything above the layers that the image came with is written as one layer. The same state gives the \
same bytes. It prints the layer's digest and size; nothing where the image was portable before. \
Containers of it run on.

Examples:
  loom portable app:v2
  loom portable app:v2 --compression gzip
  loom portable app:v2 && nerdctl save app:v2 -o app.tar";

/// Below `loom images --help`.
pub(super) const IMAGES: &str = "\
SIZE is that of all its layers on disk. PORTABLE is \"no\" where a layer is this node's alone. `nerdctl \
rmi` removes an image.

Examples:
  loom images
  loom images --json | jq -r '.[] | select(.portable | not) | .name'";

/// Below `loom tag --help`.
pub(super) const TAG: &str = "\
It works for what is not portable too. An image that has the new name loses it.

Examples:
  loom tag app:v2 app:latest
  loom tag app:v2 registry.example.com/team/app:v2";

/// Below `loom save --help`.
pub(super) const SAVE: &str = "\
What is not portable is made so first. `docker load` and `nerdctl load` take the archive. A file is \
there once it is whole.

Examples:
  loom save app:v2 -o app.tar
  loom save app:v2 | ssh other nerdctl load";

/// Below `loom push --help`.
pub(super) const PUSH: &str = "\
What is not portable is made so first. Then `nerdctl push` does the rest, with its own logins; what \
follows \"--\" is given to it.

Examples:
  loom push registry.example.com/team/app:v2
  loom push localhost:5000/app:v2 -- --insecure-registry";

/// Below `loom diff --help`.
pub(super) const DIFF: &str = "\
A line for each path: A is added, M modified, D deleted; in brackets what differs: sizes, and type, mode, \
owner, extended attributes, where a link leads, a device's number. A time alone is no difference. How \
many they are is told on stderr. A running container is read as it is, without a pause.

Without B, A is compared with what it was made of: a container, and a snapshot of one, with the snapshot \
that it was cloned from or rolled back to, else with its image; an image with the layers below its last. What \
a live container was when it was forked nobody keeps: name it to compare the fork with what it is now.

With --patch each text file's unified difference follows its line: `patch -p1` and `git apply` take it.

Examples:
  loom diff web
  loom diff before-upgrade web
  loom diff app:v1 app:v2 --patch | less -R
  loom diff web --json | jq '[.[].after.size // 0] | add'";

/// Below `loom export --help`.
pub(super) const EXPORT: &str = "\
A plain tar has the files of the state and nothing else; an OCI archive has an image, and what of it is \
not portable is made so first. A container is exported as it is now, and runs on. A file is there once it \
is whole. Ctrl-C leaves nothing.

Examples:
  loom export web -o web.tar
  loom export snapshot:before-upgrade | tar -t
  loom export web | zstd > web.tar.zst
  loom export web --format oci --image app:v2 -o app.tar";

/// Below `loom import --help`.
pub(super) const IMPORT: &str = "\
It prints the image's name. A plain tar becomes an image of one layer, whose configuration is what -c \
says; an OCI archive has its own. An archive that breaks off, and Ctrl-C, leave nothing.

Examples:
  loom import rootfs.tar base:v1 -c 'CMD [\"/bin/sh\"]' -m 'from debootstrap'
  loom import app.tar
  ssh other loom export web | loom import - web:copy";

/// Below `loom prune --help`.
pub(super) const PRUNE: &str = "\
A snapshot must fit all that is given. It prints the names of what it removes. What has a --ttl goes by \
itself, and needs no prune.

Examples:
  loom prune --older-than 30d --dry-run
  loom prune --label job=nightly --older-than 7d
  loom prune --container web
  loom prune --all";

/// Below `loom operations --help`.
pub(super) const OPERATIONS: &str = "\
Ended ones are kept for 30 days, and 10000 of them at most. With --watch and --json it is an object a \
line.

Examples:
  loom operations
  loom operations --watch
  loom operations --json | jq '.[] | select(.state == \"failed\") | .error.message'";

/// Below `loom operation --help`.
pub(super) const OPERATION: &str = "\
That an operation has failed is no failure of this command.

Examples:
  loom operation 4f2a
  loom operation 4f2a --watch
  loom operation 4f2a --json | jq .result";

/// Below `loom pool --help`.
pub(super) const POOL: &str = "\
The pool is a btrfs on which the writable layers of containers lie. A fork of one of those costs the \
same whatever it has written. Without a pool a fork copies the files, or shares their bytes one by one \
where the filesystem can.

Examples:
  loom pool create
  loom pool status
  loom pool move";

/// Below `loom pool create --help`.
pub(super) const POOL_CREATE: &str = "\
Without options it is an image in loomd's root (pool.img): a file that takes of the disk what is written \
to it and about 2 GB ahead, and grows to its size. It leaves a reserve of its host's disk alone \
(pool.reserve); while that is touched, branches are refused and containers run on.

Containers that are there stay where they are; new ones lie in the pool. loomd mounts it at each start. \
It needs btrfs-progs.

Examples:
  loom pool create
  loom pool create --size 50G
  loom pool create --device /dev/vdb
  loom pool create --path /srv/btrfs/loom";

/// Below `loom pool grow --help`.
pub(super) const POOL_GROW: &str = "\
The image takes more of its host's disk only as it is written to, so a size can be larger than what is \
free now.

Examples:
  loom pool grow 100G";

/// Below `loom pool status --help`.
pub(super) const POOL_STATUS: &str = "\
An image holds \"used\" of the \"size\" that it may grow to, and \"free\" is what it can still get. \
\"allocated\" is what it has of its host's disk. Where branches are refused it says why.

Examples:
  loom pool status
  loom pool status --json | jq .free";

/// Below `loom pool move --help`.
pub(super) const POOL_MOVE: &str = "\
What a container has written is copied into the pool, and stays where it was until that is done and on \
disk. One that runs, or is mounted, is not moved; nor does it keep the others. It prints the containers \
that were.

Examples:
  loom pool move
  nerdctl stop web && loom pool move web && nerdctl start web";

/// Below `loom completion --help`.
pub(super) const COMPLETION: &str = "\
Examples:
  loom completion bash > /etc/bash_completion.d/loom
  loom completion zsh > /usr/local/share/zsh/site-functions/_loom
  loom completion fish > ~/.config/fish/completions/loom.fish";
