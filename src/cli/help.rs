//! The longer texts of `--help`: what an example teaches better than a flag's description.

/// Over the flags that every verb takes.
pub(super) const GLOBAL: &str = "Global options";

/// Below `loom --help`.
pub(super) const LOOM: &str = "\
References:
  container:[NAMESPACE/]NAME   a container, by its name, its id or the beginning of its id
  snapshot:NAME                a snapshot, by the name that loom keeps it under
  NAME                         a container, else a snapshot's name, else a snapshot's id or the
                               first four or more of its digits
  What fits two things is refused with a list of both.

Examples:
  loom fork web                        one more \"web\", from where it stands now
  loom fork web --name try --count 3   try-1, try-2 and try-3, all of one moment
  loom snapshot web --name before      remember this state; \"web\" runs on
  loom clone before --name again       a container with that state
  loom pin before                      keep it, whatever is removed
  loom tree                            what was branched from what
  loom ls --json | jq -r '.[].id'      the same for programs

Exit status:
  0  done
  1  failed, for any reason that is not below
  2  wrong usage: an unknown verb or flag, or a reference that can mean nothing or two things
  3  not found
  4  conflict or precondition: it already exists, it is pinned, its state does not allow it
  5  unavailable: loomd, or containerd behind it, does not answer";

/// Below `loom ls --help`.
pub(super) const LS: &str = "\
FROM is what a snapshot was branched from, else its parent. A container in another namespace than
--namespace is shown as NAMESPACE/NAME.

Examples:
  loom ls
  loom ls --all --json | jq '.[] | select(.pinned) | .name'
  loom rm $(loom ls --json | jq -r '.[] | select(.labels.job == \"nightly\") | .id')";

/// Below `loom tree --help`.
pub(super) const TREE: &str = "\
A snapshot hangs below its source, else below its parent; the oldest comes first. The layers of an
image are one line unless --all is given. \"gone\" is a snapshot that was removed and that only its
descendants' lineage remembers.

With --json it is a flat array in the order of the drawing; \"source\" and \"parent\" tell its shape.";

/// Below `loom rm --help`.
pub(super) const RM: &str = "\
A snapshot that containerd has a key for is containerd's to remove (nerdctl rm, nerdctl rmi), and a
pinned one must be unpinned first. What cannot be removed does not keep the others from it; the exit
status is then that of the first failure.";

/// Below `loom snapshot --help`.
pub(super) const SNAPSHOT: &str = "\
The container is paused around the last step only; how long is told on stderr.

Examples:
  loom snapshot web --name before-upgrade
  loom snapshot web --label job=nightly --label commit=4f2a
  loom clone before-upgrade --name web-old";

/// Below `loom fork --help`.
pub(super) const FORK: &str = "\
A line for each fork: its name and its process. How long the source stood still is told on stderr.
Where single forks fail, they are listed on stderr, the others stay, and the exit status is 1.

Examples:
  loom fork web
  loom fork web --name try --count 8
  loom fork container:k8s.io/web --no-start";

/// Below `loom clone --help`.
pub(super) const CLONE: &str = "\
Examples:
  loom clone before-upgrade
  loom clone snapshot:before-upgrade --name web-old --no-start";

/// Below `loom completion --help`.
pub(super) const COMPLETION: &str = "\
Examples:
  loom completion bash > /etc/bash_completion.d/loom
  loom completion zsh > /usr/local/share/zsh/site-functions/_loom
  loom completion fish > ~/.config/fish/completions/loom.fish";
pub(super) const ROLLBACK: &str = "";
pub(super) const PROMOTE: &str = "";
pub(super) const PRUNE: &str = "";
pub(super) const OPERATIONS: &str = "";
pub(super) const OPERATION: &str = "";
