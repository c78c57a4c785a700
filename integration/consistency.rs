//! Databases are forked while they write: each fork is whole by the database's own checks, and holds every
//! transaction that was acknowledged before it was asked for. As after a power cut, and with the
//! application's own preparation.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.
#![allow(clippy::needless_pass_by_value)] // A stage ends with its test.

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use support::containerd::Version;
use support::image::workshop;
use support::layout::Layout;
use support::stage::{Stage, on_stages};
use support::wait::wait_until;

const FORKS: usize = 20;

/// A database under writes. All that its scripts know is in the container, but for /acked: there, outside of
/// every state, they tell what was committed and which hooks ran.
///
/// Transaction N inserts row N into `t` and adds N to the one row of `s`; once its COMMIT has returned, N
/// is appended to /acked/log. So a state is whole where `t` has the rows 1 to its maximum, and `s` their sum.
struct Database {
    name: &'static str,
    /// Makes the database, and writes to it for ever.
    write: &'static str,
    /// Opens what a fork has, checks it, and prints `count|max|sum|s`.
    check: &'static str,
    /// What `loom.quiesce` and `loom.unquiesce` are to be; each tells /acked/hooks.
    quiesce: &'static str,
    unquiesce: &'static str,
    /// Whether nothing is written between the two: then a fork has exactly what was acknowledged, in one file.
    holds: bool,
}

/// In its write-ahead mode: a connection that stays open keeps the log from being folded into the database
/// with every transaction's end. The hooks hold the writer, and fold it.
const SQLITE: Database = Database {
    name: "sqlite",
    write: r#"
set -e
cd /srv
sql() { sqlite3 -bail -cmd '.timeout 30000' -cmd 'PRAGMA synchronous=FULL' db "$@" >/dev/null; }
sql 'PRAGMA journal_mode=WAL' 'CREATE TABLE t (n INTEGER PRIMARY KEY, filler)' \
    'CREATE TABLE s (total)' 'INSERT INTO s VALUES (0)' 'CREATE INDEX filler ON t (filler)'
{ echo 'SELECT * FROM s;'; exec sleep 1000000; } | sqlite3 -cmd '.timeout 30000' db >/dev/null &
n=0
while :; do
    n=$((n+1))
    sql "BEGIN IMMEDIATE; INSERT INTO t VALUES ($n, hex(randomblob(300))); UPDATE s SET total = total + $n; COMMIT"
    echo $n >>/acked/log
    if [ -e hold ]; then
        touch held
        while [ -e hold ]; do sleep 0.01; done
        rm held
    fi
done
"#,
    check: r"
set -e
cd /srv
test $(sqlite3 db 'PRAGMA integrity_check') = ok
sqlite3 db 'SELECT count(*), max(n), sum(n), (SELECT total FROM s) FROM t'
",
    quiesce: "cd /srv; touch hold; until [ -e held ]; do sleep 0.01; done; \
              sqlite3 -bail -cmd '.timeout 30000' db 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null; \
              echo quiesce $(wc -l </acked/log) >>/acked/hooks",
    unquiesce: "rm /srv/hold; echo unquiesce >>/acked/hooks",
    holds: true,
};

/// One client that commits, on a cluster that checks its pages. Sockets are in /run, which no state has.
const POSTGRES: Database = Database {
    name: "postgres",
    write: r#"
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
as() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }
install -d -o postgres /srv/pg /run/pg
as $bin/initdb -D /srv/pg --data-checksums -A trust >/dev/null
echo "unix_socket_directories = '/run/pg'
listen_addresses = ''
shared_buffers = 16MB
jit = off" >>/srv/pg/postgresql.conf
as $bin/pg_ctl -D /srv/pg -w -l /srv/pg/first start >/dev/null
psql="as psql -qAt -v ON_ERROR_STOP=1 -h /run/pg postgres"
$psql -c 'CREATE TABLE t (n bigint PRIMARY KEY, filler text)' -c 'CREATE INDEX ON t (filler)' \
    -c 'CREATE TABLE s (total bigint)' -c 'INSERT INTO s VALUES (0)' -c 'CREATE EXTENSION amcheck'
chmod 777 /acked
n=0
while :; do
    n=$((n+1))
    echo "BEGIN; INSERT INTO t VALUES ($n, md5('$n')); UPDATE s SET total = total + $n; COMMIT;"
    echo "\\! echo $n >>/acked/log"
done | $psql
"#,
    // The other postmaster's process id may be anybody's in a new container.
    check: r#"
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
as() { setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; }
rm /srv/pg/postmaster.pid
install -d -o postgres /run/pg
as $bin/pg_ctl -D /srv/pg -w -l /srv/pg/second start >/dev/null
grep -q 'not properly shut down; automatic recovery' /srv/pg/second
as $bin/pg_amcheck -h /run/pg --heapallindexed postgres >&2
as psql -qAt -h /run/pg postgres -c 'SELECT count(*), max(n), sum(n), (SELECT total FROM s) FROM t'
"#,
    quiesce: "psql -qAt -h /run/pg -U postgres postgres -c CHECKPOINT && \
              echo quiesce $(wc -l </acked/log) >>/acked/hooks",
    unquiesce: "echo unquiesce >>/acked/hooks",
    holds: false,
};

/// A running database, seen from outside.
struct Running<'a> {
    stage: &'a Stage,
    database: Database,
    acked: PathBuf,
}

impl Running<'_> {
    fn start<'a>(stage: &'a Stage, image: &str, database: Database) -> Running<'a> {
        let acked = stage.scratch.dir(database.name);
        let mount = format!("type=bind,src={},dst=/acked,options=rbind:rw", acked.display());
        let hook = |label: &str, script: &str| format!("{label}={}", json!(["sh", "-ec", script]));
        let quiesce = hook("loom.quiesce", database.quiesce);
        let unquiesce = hook("loom.unquiesce", database.unquiesce);
        stage.containerd.ctr(&[
            "run",
            "-d",
            "--snapshotter",
            "loom",
            "--mount",
            &mount,
            "--label",
            &quiesce,
            "--label",
            &unquiesce,
            image,
            database.name,
            "bash",
            "-c",
            database.write,
        ]);
        let running = Running { stage, database, acked };
        running.wait_for_more(10);
        running
    }

    /// How many transactions were acknowledged, which have the numbers from 1.
    fn acknowledged(&self) -> usize {
        let log = fs::read_to_string(self.acked.join("log")).unwrap_or_default();
        log.lines().count()
    }

    fn wait_for_more(&self, transactions: usize) {
        let before = self.acknowledged();
        wait_until("transactions", || self.acknowledged() >= before + transactions);
    }

    /// What hooks told since this was asked last.
    fn hooks(&self) -> Vec<String> {
        let path = self.acked.join("hooks");
        let told = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path);
        told.lines().map(ToOwned::to_owned).collect()
    }

    /// Forks it, lets the fork's own database open and check what it has, and says how many transactions
    /// were acknowledged before the fork was asked for, and how many it has.
    fn fork(&self, name: &str, consistency: &str) -> (usize, usize) {
        let before = self.acknowledged();
        let source = self.database.name;
        let fork = [source, "--name", name, "--consistency", consistency, "--", "sleep", "100000"];
        assert_eq!(self.stage.fork(&fork), [name]);
        let told = self.stage.containerd.exec(name, &["bash", "-c", self.database.check]);
        let numbers: Vec<usize> = told.trim().split('|').map(|number| number.parse().expect(&told)).collect();
        let [count, last, sum, total] = numbers[..] else { panic!("{name}: {told}") };
        assert_eq!((count, sum), (last, last * (last + 1) / 2), "{name}: a transaction is missing: {told}");
        assert_eq!(sum, total, "{name}: the tables are of two moments: {told}");
        assert!(last >= before, "{name}: {before} were acknowledged before, and it has {last}");
        (before, last)
    }

    /// The bytes of the write-ahead log that a fork of SQLite begins with.
    fn log_of(&self, name: &str) -> u64 {
        let root = PathBuf::from(format!("/proc/{}/root", self.stage.containerd.pid_of(name)));
        fs::metadata(root.join("srv/db-wal")).map_or(0, |log| log.len())
    }
}

fn forks(stage: Stage, database: Database) {
    let image = stage.import(&workshop());
    let running = Running::start(&stage, &image, database);
    let mut last = 0;
    for consistency in ["crash", "app"] {
        let mut ahead = Vec::new();
        for number in 1..=FORKS {
            running.wait_for_more(2);
            let name = format!("{consistency}-{number}");
            let (before, has) = running.fork(&name, consistency);
            assert!(has > last, "{name}: the source went on: {last}, then {has}");
            last = has;
            ahead.push(has - before);
            let hooks = running.hooks();
            if consistency == "crash" {
                assert!(hooks.is_empty(), "{name}: {hooks:?}");
            } else {
                let [quiesce, unquiesce] = &hooks[..] else {
                    panic!("{name}: each hook runs once: {hooks:?}")
                };
                assert_eq!(unquiesce, "unquiesce");
                let told: usize = quiesce.strip_prefix("quiesce ").expect(quiesce).parse().unwrap();
                assert!(has >= told, "{name}: {hooks:?}, and it has {has}");
                if running.database.holds {
                    assert_eq!(has, told, "{name}: the writer was held");
                    assert_eq!(running.log_of(&name), 0, "{name}: nothing is to be recovered");
                }
            }
            stage.containerd.remove(&[&name]);
        }
        running.wait_for_more(2);
        println!(
            "consistency | {:?} | {} | {consistency} | {FORKS} forks whole | {last} transactions | ahead {ahead:?}",
            stage.layout, running.database.name,
        );
    }
    assert_eq!(stage.containerd.status_of(running.database.name).as_deref(), Some("RUNNING"));
    stage.end(&image);
}

fn sqlite(stage: Stage) {
    forks(stage, SQLITE);
}

fn postgres(stage: Stage) {
    forks(stage, POSTGRES);
}

on_stages! {
    sqlite_on_ext4: sqlite(Ext4, Debian);
    sqlite_on_xfs: sqlite(Xfs, Debian);
    sqlite_with_a_pool: sqlite(Ext4Pool, Current);
    postgres_on_xfs: postgres(Xfs, Current);
    postgres_with_a_pool: postgres(Ext4Pool, Debian);
}
