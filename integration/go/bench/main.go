// bench measures Prepare and Remove through a containerd: for each number of clients and each
// snapshotter, in turns, so that what disturbs one disturbs the other. It prints a JSON object a line.
//
//	bench -address SOCKET -parent KEY -seconds 3 -clients 1,8,32 -snapshotters overlayfs,loom
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

type result struct {
	Snapshotter string  `json:"snapshotter"`
	Clients     int     `json:"clients"`
	PerSecond   float64 `json:"per_second"`
	P50Micros   int64   `json:"prepare_p50_us"`
	P99Micros   int64   `json:"prepare_p99_us"`
}

func main() {
	address := flag.String("address", "", "containerd's socket")
	parent := flag.String("parent", "", "the committed snapshot to prepare on")
	seconds := flag.Float64("seconds", 3, "how long each measurement takes")
	clients := flag.String("clients", "1,8,32", "numbers of clients")
	snapshotters := flag.String("snapshotters", "overlayfs,loom", "snapshotters")
	flag.Parse()

	for _, number := range strings.Split(*clients, ",") {
		n, err := strconv.Atoi(number)
		if err != nil {
			log.Fatal(err)
		}
		for _, snapshotter := range strings.Split(*snapshotters, ",") {
			r, err := measure(*address, snapshotter, *parent, n, time.Duration(*seconds*float64(time.Second)))
			if err != nil {
				log.Fatalf("%s with %d clients: %v", snapshotter, n, err)
			}
			json.NewEncoder(os.Stdout).Encode(r)
		}
	}
}

func measure(address, snapshotter, parent string, clients int, length time.Duration) (result, error) {
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		times  []time.Duration
		failed error
	)
	begin := time.Now()
	for i := range clients {
		all.Go(func() {
			own, err := loop(address, snapshotter, parent, fmt.Sprintf("bench-%d-%d", clients, i), begin.Add(length))
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
			if err != nil {
				failed = err
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	if failed != nil {
		return result{}, failed
	}
	slices.Sort(times)
	return result{
		Snapshotter: snapshotter,
		Clients:     clients,
		PerSecond:   float64(len(times)) / took.Seconds(),
		P50Micros:   times[len(times)/2].Microseconds(),
		P99Micros:   times[len(times)*99/100].Microseconds(),
	}, nil
}

// loop prepares and removes one key, over and over, on a connection of its own. It returns how long
// each Prepare took.
func loop(address, snapshotter, parent, key string, end time.Time) (times []time.Duration, err error) {
	c, err := client.New(address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx := namespaces.WithNamespace(context.Background(), "default")
	// The collector would take a snapshot that nothing refers to.
	lease, err := c.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return nil, err
	}
	defer c.LeasesService().Delete(ctx, lease)
	ctx = leases.WithLease(ctx, lease.ID)
	service := c.SnapshotService(snapshotter)
	for i := 0; time.Now().Before(end) || i == 0; i++ {
		name := fmt.Sprintf("%s-%d", key, i)
		begin := time.Now()
		if _, err := service.Prepare(ctx, name, parent); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
		if err := service.Remove(ctx, name); err != nil {
			return nil, err
		}
	}
	return times, nil
}
