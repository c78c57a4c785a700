// Command label is a client of containerd that knows nothing of loom but the label: it asks containerd
// for a snapshot that continues from another one.
//
// It prints JSON: the lease that keeps the snapshot, which is mounted then, or what containerd refused,
// as {"code","message"}; then the lease is gone again.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"
)

type answer struct {
	Lease   string `json:"lease,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

func main() {
	var (
		address   = flag.String("address", "", "containerd's socket")
		namespace = flag.String("namespace", "default", "containerd's namespace")
		key       = flag.String("key", "", "the new snapshot's key")
		parent    = flag.String("parent", "", "the new snapshot's parent; with -like, that one's")
		like      = flag.String("like", "", "the key of the snapshot whose parent is taken")
		labels    = flag.String("labels", "", "the new snapshot's labels: KEY=VALUE,...")
		at        = flag.String("at", "", "where to mount the new snapshot")
	)
	flag.Parse()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), *namespace), time.Minute)
	defer cancel()
	got, err := fork(ctx, *address, *key, *parent, *like, *labels, *at)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(got)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "label:", err)
		os.Exit(1)
	}
}

// An error is only what is not an answer to the Prepare.
func fork(ctx context.Context, address, key, parent, like, labels, at string) (answer, error) {
	c, err := client.New(address)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	s := c.SnapshotService("loom")
	if like != "" {
		info, err := s.Stat(ctx, like)
		if err != nil {
			return answer{}, err
		}
		parent = info.Parent
	}
	wanted := map[string]string{}
	for _, label := range strings.Split(labels, ",") {
		name, value, _ := strings.Cut(label, "=")
		wanted[name] = value
	}
	lease, err := c.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return answer{}, err
	}
	mounts, refused := s.Prepare(leases.WithLease(ctx, lease.ID), key, parent, snapshots.WithLabels(wanted))
	if refused != nil {
		// The code as it came over the wire.
		code := status.Code(errgrpc.ToGRPC(refused)).String()
		return answer{Code: code, Message: refused.Error()}, c.LeasesService().Delete(ctx, lease)
	}
	return answer{Lease: lease.ID}, mount.All(mounts, at)
}
