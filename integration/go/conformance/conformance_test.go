// Package conformance runs containerd's own suite for snapshotters against loom: over loomd's gRPC
// socket, a fresh daemon for each subtest, and through a real containerd, a fresh namespace for each.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The suite tells by this name what a snapshotter can do. loom hands out overlay mounts, so what is
// asked of it is what is asked of overlayfs.
const shape = "overlayfs"

const deadline = time.Minute

// TestDirect needs LOOMD, the daemon; LOOM_POOL_BASE, where given, is a directory for pools. TMPDIR
// says where the roots lie.
func TestDirect(t *testing.T) {
	loomd := os.Getenv("LOOMD")
	if loomd == "" {
		t.Skip("LOOMD is not set")
	}
	testsuite.SnapshotterSuite(t, shape, func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		return start(ctx, loomd, root)
	})
}

func start(ctx context.Context, loomd, root string) (snapshots.Snapshotter, func() error, error) {
	base := filepath.Dir(root)
	state := filepath.Join(base, "s")
	config := "version = 1\n"
	if pools := os.Getenv("LOOM_POOL_BASE"); pools != "" {
		pool := filepath.Join(pools, filepath.Base(base))
		if err := os.Mkdir(pool, 0o700); err != nil {
			return nil, nil, err
		}
		config += fmt.Sprintf("\n[pool]\npath = %q\n", pool)
	}
	file := filepath.Join(base, "loom.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, nil, err
	}
	var log bytes.Buffer
	daemon := exec.Command(loomd, "--config", file, "--root", root, "--state", state)
	daemon.Env = append(os.Environ(), "LOOM_HTTP_ADDR=off")
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()

	socket := filepath.Join(state, "loom.sock")
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		if probe, err := net.Dial("unix", socket); err == nil {
			probe.Close()
			break
		}
		select {
		case err := <-ended:
			return nil, nil, fmt.Errorf("loomd ended before it was ready: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(end) {
			daemon.Process.Kill()
			<-ended
			return nil, nil, fmt.Errorf("loomd did not get ready\n%s", log.String())
		}
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		daemon.Process.Kill()
		return nil, nil, err
	}
	stop := func() error {
		conn.Close()
		daemon.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("loomd: %w\n%s", err, log.String())
			}
			return nil
		case <-time.After(deadline):
			daemon.Process.Kill()
			<-ended
			return fmt.Errorf("loomd did not end\n%s", log.String())
		}
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "loom"), stop, nil
}

// TestContainerd needs CONTAINERD_ADDRESS; SNAPSHOTTER is the name of the plugin, "loom" by default.
func TestContainerd(t *testing.T) {
	address := os.Getenv("CONTAINERD_ADDRESS")
	if address == "" {
		t.Skip("CONTAINERD_ADDRESS is not set")
	}
	name := os.Getenv("SNAPSHOTTER")
	if name == "" {
		name = "loom"
	}
	testsuite.SnapshotterSuite(t, shape, func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		c, err := client.New(address)
		if err != nil {
			return nil, nil, err
		}
		// The subtest's directory names it among all others; containerd takes no other characters.
		namespace := strings.Trim(filepath.Base(filepath.Dir(root)), "-_.")
		ctx := namespaces.WithNamespace(context.Background(), namespace)
		lease, err := c.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
		if err != nil {
			return nil, nil, errors.Join(err, c.Close())
		}
		// Close is the suite's to call, and twice: it must not end the lease.
		end := func() error {
			ctx := namespaces.WithNamespace(context.Background(), namespace)
			return errors.Join(c.LeasesService().Delete(ctx, lease), c.Close())
		}
		return &scoped{c.SnapshotService(name), namespace, lease.ID}, end, nil
	})
}

// scoped makes each call in a namespace and under a lease.
type scoped struct {
	snapshots.Snapshotter
	namespace, lease string
}

func (s *scoped) in(ctx context.Context) context.Context {
	return leases.WithLease(namespaces.WithNamespace(ctx, s.namespace), s.lease)
}

func (s *scoped) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return s.Snapshotter.Stat(s.in(ctx), key)
}

func (s *scoped) Update(ctx context.Context, info snapshots.Info, fields ...string) (snapshots.Info, error) {
	return s.Snapshotter.Update(s.in(ctx), info, fields...)
}

func (s *scoped) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.Snapshotter.Usage(s.in(ctx), key)
}

func (s *scoped) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.Snapshotter.Mounts(s.in(ctx), key)
}

func (s *scoped) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.Prepare(s.in(ctx), key, parent, opts...)
}

func (s *scoped) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.View(s.in(ctx), key, parent, opts...)
}

func (s *scoped) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.Snapshotter.Commit(s.in(ctx), name, key, opts...)
}

func (s *scoped) Remove(ctx context.Context, key string) error {
	return s.Snapshotter.Remove(s.in(ctx), key)
}

func (s *scoped) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.Snapshotter.Walk(s.in(ctx), fn, filters...)
}
