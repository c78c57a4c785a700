//! A tree of every kind of thing, and what other tools say of it.

use std::path::Path;

use super::sh;

/// Fills a directory with every kind of thing that a layer can hold.
pub(super) fn fill(fs: &Path) {
    sh(
        fs,
        r#"
        echo plain > plain; chmod 640 plain; chown 1000:1001 plain
        : > empty
        head -c 3000000 /dev/urandom > big
        cp /bin/true suid; chown 12:34 suid; chmod 6755 suid
        cp /bin/true capable; chown 7:8 capable; setcap cap_net_raw+ep capable
        echo acl > acl; setfacl -m u:1234:rw,g:77:r acl
        mkdir inherits; setfacl -d -m u:4321:rwx inherits; echo x > inherits/with
        setfacl -b inherits/with; mkdir inherits/sub; setfacl -b inherits/sub
        mkdir setgid; chgrp 55 setgid; chmod 3777 setgid; echo > setgid/file; chgrp 0 setgid/file
        setfattr -n user.note -v "some text" plain; setfattr -n user.empty plain
        setfattr -n trusted.thing -v 0x00ff00 plain
        mkdir opaque; setfattr -n trusted.overlay.opaque -v y opaque; echo o > opaque/o
        setfattr -n trusted.overlay.origin -v 0x1234 empty
        mknod whiteout c 0 0; mknod null c 1 3; mknod -m 600 block b 7 200; chown 5:6 block
        mkfifo -m 622 fifo
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
        ln -s nowhere link; ln -s /etc/passwd absolute; ln -s . self; chown -h 9:10 link
        setfattr -h -n trusted.on.link -v v link
        setfattr -h -n trusted.on.fifo -v v fifo
        setfattr -h -n trusted.on.device -v v whiteout
        ln -s "$(printf 'x%.0s' {1..255})" longlink
        mkdir -p a/b/c; echo 1 > a/one; ln a/one a/b/two; ln a/one three; ln link a/link2; ln fifo a/fifo2
        ln null a/b/c/null2
        truncate -s 10G sparse
        printf data | dd of=sparse bs=1 seek=5G conv=notrunc status=none
        truncate -s 1M allhole; cat /bin/true > holeend; truncate -s 4M holeend
        touch -- "$(printf 'n%.0s' {1..255})" $'not\xffutf8\xfe' $'new\nline' ' space ' '-rf' $'back\\slash'
        mkdir $'dir\xff'; echo in > $'dir\xff/in'
        mkdir locked; echo l > locked/l; chmod 000 locked/l locked
        touch -h -d '1999-12-31 23:59:59.123456789' plain link null fifo
        touch -d '2033-01-02 03:04:05.987654321' a/b a big
        touch -a -d '2001-01-01 00:00:00.5' capable
        touch -d '1960-06-06 06:06:06.25' inherits 2>/dev/null || true
        chmod 2751 .; chown 33:44 .
        touch -d '2010-10-10 10:10:10.101010101' .
        "#,
    );
}

/// What `find`, `getfattr` and `sha256sum` say of a tree: type, mode, owner, links, size, blocks of
/// holes, device, times, targets, attributes, contents, and which names are one file.
pub(super) fn describe(fs: &Path) -> String {
    let out = sh(
        fs,
        r#"
        find . -printf '%y %m %U:%G %n %T@ %A@ %P -> %l\0' | sort -z | tr '\0' '\n'
        find . ! -type d -printf '%s %P\0' | sort -z | tr '\0' '\n'
        find . \( -type c -o -type b \) -print0 | sort -z | xargs -0 stat -c '%t,%T %n'
        find . ! -type d -links +1 -printf '%i\t%P\n' | sort -k2 | awk -F'\t' '
            { if (!($1 in n)) n[$1] = ++k; print "same", n[$1], $2 }'
        find . -print0 | sort -z | xargs -0 getfattr -h -d -m - -e hex -- 2>/dev/null
        find . -type f -size -1G -print0 | sort -z | xargs -0 sha256sum
        python3 - <<'E'
import os
f = os.open("sparse", os.O_RDONLY)
d = os.lseek(f, 0, os.SEEK_DATA)
print("sparse", d >= 5 << 30 or d, os.pread(f, 4, 5 << 30), os.fstat(f).st_blocks < 1000)
f = os.open("holeend", os.O_RDONLY)
print("holeend", os.fstat(f).st_blocks * 512 < 2 << 20)
E
        "#,
    );
    String::from_utf8_lossy(&out).into_owned()
}

/// Compares two descriptions line by line.
pub(super) fn same(left: &str, right: &str) {
    let wrong: Vec<_> = left.lines().zip(right.lines()).filter(|(l, r)| l != r).take(5).collect();
    assert!(wrong.is_empty() && left.lines().count() == right.lines().count(), "{wrong:#?}");
}
