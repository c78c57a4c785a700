// Command admin is a client of loom.admin.v1.Admin that was generated from its proto alone, on containerd's
// own ttrpc. It calls every method, as another program would, and checks what is answered.
//
//	admin -address SOCKET -namespace NAMESPACE -container NAME
//
// The container runs, and this is its only branching. The images that are made stay. It prints the names of the methods that it called,
// sorted, and fails where the proto has one that it did not call.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"loom.test/integration/admin/api"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("admin: ")
	var (
		address   = flag.String("address", "", "loomd's ttrpc socket")
		namespace = flag.String("namespace", "default", "containerd's namespace")
		container = flag.String("container", "", "the container that is branched")
	)
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	conn, err := net.Dial("unix", *address)
	if err != nil {
		log.Fatal(err)
	}
	called := map[string]bool{}
	note := func(ctx context.Context, req *ttrpc.Request, resp *ttrpc.Response, info *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker) error {
		called[req.Method] = true
		return invoke(ctx, req, resp)
	}
	conversation := ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(note))
	defer conversation.Close()
	s := session{
		ctx:        ctx,
		admin:      api.NewAdminClient(conversation),
		containerd: &api.Containerd{Namespace: *namespace},
		container:  *container,
		called:     called,
	}
	parts := []func() error{
		s.look, s.branch, s.replace, s.hold, s.operations, s.images, s.archives, s.space, s.refusals, s.clear,
	}
	for _, part := range parts {
		if err := part(); err != nil {
			log.Fatal(err)
		}
	}

	names := []string{}
	methods := api.File_loom_admin_v1_admin_proto.Services().ByName("Admin").Methods()
	for i := range methods.Len() {
		name := string(methods.Get(i).Name())
		if !called[name] {
			log.Fatalf("the proto has %s, which was not called", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	json.NewEncoder(os.Stdout).Encode(names)
}

// A session is one client's conversation, with what it has made so far.
type session struct {
	ctx        context.Context
	admin      api.AdminClient
	containerd *api.Containerd
	container  string
	called     map[string]bool

	state *api.Snapshot // of the container, by the name "state"
	fork  string        // the first fork
	kept  []string      // what rollback and promote kept
}

// Where one is wanted, how a branch ends.
const operation = "0123456789abcdef0123456789abcdef"

func (s *session) look() error {
	now, err := s.admin.Status(s.ctx, &api.StatusRequest{})
	if err != nil {
		return fmt.Errorf("Status: %w", err)
	}
	if now.Version == "" || now.Pid == 0 || now.Method == "" || time.Since(now.Started.AsTime()) > time.Hour {
		return fmt.Errorf("Status: %v", now)
	}
	return nil
}

func (s *session) branch() error {
	taken, err := s.admin.Snapshot(s.ctx, &api.SnapshotRequest{
		Containerd: s.containerd, Reference: s.container, Name: "state", Labels: map[string]string{"a": "b"},
		Options: &api.Options{Operation: operation, IdempotencyKey: "one", TtlSeconds: 3600},
	})
	if err != nil {
		return fmt.Errorf("Snapshot: %w", err)
	}
	s.state = taken.Snapshot
	if s.state.Name != "state" || s.state.Kind != api.Kind_KIND_COMMITTED || s.state.Labels["a"] != "b" ||
		taken.Operation != operation || taken.Cost.PausedUs == 0 || s.state.Expires == nil {
		return fmt.Errorf("Snapshot: %v", taken)
	}
	forked, err := s.admin.Fork(s.ctx, &api.ForkRequest{
		Containerd: s.containerd, Reference: s.container, Count: 2,
		Changes: &api.Changes{Env: []string{"COLOR=blue"}, Labels: map[string]string{"c": "d"}},
	})
	if err != nil {
		return fmt.Errorf("Fork: %w", err)
	}
	if len(forked.Forks) != 2 || forked.Forks[0].Pid == 0 || forked.Forks[1].Error != "" {
		return fmt.Errorf("Fork: %v", forked)
	}
	s.fork = forked.Forks[0].Container
	cloned, err := s.admin.Clone(s.ctx, &api.CloneRequest{
		Containerd: s.containerd, Reference: "snapshot:state", Name: "clone",
		Options: &api.Options{ResumePolicy: api.ResumePolicy_RESUME_POLICY_MANUAL},
	})
	if err != nil {
		return fmt.Errorf("Clone: %w", err)
	}
	if cloned.Clone.Container != "clone" || cloned.Clone.Pid != 0 {
		return fmt.Errorf("Clone: %v", cloned)
	}
	resumed, err := s.admin.Resume(s.ctx, &api.ResumeRequest{Containerd: s.containerd, Reference: "clone"})
	if err != nil {
		return fmt.Errorf("Resume: %w", err)
	}
	if resumed.Container != "clone" || resumed.Pid == 0 {
		return fmt.Errorf("Resume: %v", resumed)
	}
	return nil
}

func (s *session) replace() error {
	rolled, err := s.admin.Rollback(s.ctx, &api.RollbackRequest{
		Containerd: s.containerd, Reference: s.container, Snapshot: "state", Name: "before-rollback",
	})
	if err != nil {
		return fmt.Errorf("Rollback: %w", err)
	}
	promoted, err := s.admin.Promote(s.ctx, &api.PromoteRequest{
		Containerd: s.containerd, Reference: s.fork, Name: "before-promotion",
	})
	if err != nil {
		return fmt.Errorf("Promote: %w", err)
	}
	for name, answer := range map[string]*api.Rolled{
		"before-rollback": rolled.Container, "before-promotion": promoted.Container,
	} {
		if answer.Container != s.container || answer.Kept == "" || answer.KeptName != name || answer.Pid == 0 {
			return fmt.Errorf("Rollback or Promote: %v", answer)
		}
		s.kept = append(s.kept, name)
	}
	return nil
}

// hold pins, and reads what is kept.
func (s *session) hold() error {
	pinned, err := s.admin.Pin(s.ctx, &api.PinRequest{Containerd: s.containerd, Reference: "state"})
	if err != nil {
		return fmt.Errorf("Pin: %w", err)
	}
	if !pinned.Snapshot.Pinned {
		return fmt.Errorf("Pin: %v", pinned)
	}
	_, err = s.admin.Remove(s.ctx, &api.RemoveRequest{Containerd: s.containerd, Reference: "state"})
	if status.Code(err) != codes.FailedPrecondition {
		return fmt.Errorf("Remove of what is pinned: %w", err)
	}
	if _, err := s.admin.Unpin(s.ctx, &api.UnpinRequest{Containerd: s.containerd, Reference: "state"}); err != nil {
		return fmt.Errorf("Unpin: %w", err)
	}
	got, err := s.admin.Get(s.ctx, &api.GetRequest{Containerd: s.containerd, Reference: "snapshot:state"})
	if err != nil {
		return fmt.Errorf("Get: %w", err)
	}
	if got.Snapshot.Id != s.state.Id || got.Snapshot.Pinned || got.Snapshot.Container != s.container {
		return fmt.Errorf("Get: %v", got)
	}

	s.called["Lineage"] = true
	way, err := s.admin.Lineage(s.ctx, &api.LineageRequest{Containerd: s.containerd, Reference: "clone"})
	if err != nil {
		return fmt.Errorf("Lineage: %w", err)
	}
	nearest, err := drain(func() ([]*api.Snapshot, error) {
		batch, err := way.Recv()
		return batch.GetSnapshots(), err
	})
	if err != nil {
		return fmt.Errorf("Lineage: %w", err)
	}
	if !slices.ContainsFunc(nearest, func(one *api.Snapshot) bool { return one.Id == s.state.Id }) {
		return fmt.Errorf("Lineage: the clone's state is not in %v", nearest)
	}

	s.called["List"] = true
	list, err := s.admin.List(s.ctx, &api.ListRequest{All: true})
	if err != nil {
		return fmt.Errorf("List: %w", err)
	}
	all, err := drain(func() ([]*api.Snapshot, error) {
		batch, err := list.Recv()
		return batch.GetSnapshots(), err
	})
	if err != nil {
		return fmt.Errorf("List: %w", err)
	}
	for _, name := range append([]string{"state"}, s.kept...) {
		if !slices.ContainsFunc(all, func(one *api.Snapshot) bool { return one.Name == name }) {
			return fmt.Errorf("List: %s is not in %v", name, all)
		}
	}
	return nil
}

func (s *session) operations() error {
	one, err := s.admin.GetOperation(s.ctx, &api.GetOperationRequest{Id: operation[:12]})
	if err != nil {
		return fmt.Errorf("GetOperation: %w", err)
	}
	if one.Operation.Id != operation || one.Operation.State != api.OperationState_OPERATION_STATE_SUCCEEDED ||
		one.Operation.Kind != api.OperationKind_OPERATION_KIND_SNAPSHOT ||
		one.Operation.IdempotencyKey != "one" || len(one.Operation.Steps) == 0 || one.Operation.Ended == nil {
		return fmt.Errorf("GetOperation: %v", one)
	}
	s.called["ListOperations"] = true
	list, err := s.admin.ListOperations(s.ctx, &api.ListOperationsRequest{Limit: 100})
	if err != nil {
		return fmt.Errorf("ListOperations: %w", err)
	}
	all, err := drain(func() ([]*api.Operation, error) {
		batch, err := list.Recv()
		return batch.GetOperations(), err
	})
	if err != nil {
		return fmt.Errorf("ListOperations: %w", err)
	}
	// Snapshot, Fork, Clone, Resume, Rollback, Promote: newest first.
	if n := len(all); n != 6 || all[n-1].Id != operation {
		return fmt.Errorf("ListOperations: %v", all)
	}
	_, err = s.admin.CancelOperation(s.ctx, &api.CancelOperationRequest{Id: operation})
	if status.Code(err) != codes.FailedPrecondition {
		return fmt.Errorf("CancelOperation of what has ended: %w", err)
	}

	// A watch of an operation that is not there yet tells of it as it goes, and ends with it.
	s.called["WatchOperations"] = true
	id := "fedcba9876543210fedcba9876543210"
	watch, err := s.admin.WatchOperations(s.ctx, &api.WatchOperationsRequest{Id: id})
	if err != nil {
		return fmt.Errorf("WatchOperations: %w", err)
	}
	made := make(chan error, 1)
	go func() {
		_, err := s.admin.Snapshot(s.ctx, &api.SnapshotRequest{
			Containerd: s.containerd, Reference: s.container, Name: "watched", Options: &api.Options{Operation: id},
		})
		made <- err
	}()
	seen, err := drain(func() ([]*api.Operation, error) {
		change, err := watch.Recv()
		return []*api.Operation{change.GetOperation()}, err
	})
	if err := errors.Join(err, <-made); err != nil {
		return fmt.Errorf("WatchOperations: %w", err)
	}
	last := seen[len(seen)-1]
	if last.Id != id || last.State != api.OperationState_OPERATION_STATE_SUCCEEDED || last.Result == "" {
		return fmt.Errorf("WatchOperations: ended with %v", last)
	}
	return nil
}

func (s *session) refusals() error {
	_, err := s.admin.Get(s.ctx, &api.GetRequest{Containerd: s.containerd, Reference: "nobody"})
	if status.Code(err) != codes.NotFound {
		return fmt.Errorf("Get of nobody: %w", err)
	}
	_, err = s.admin.Snapshot(s.ctx, &api.SnapshotRequest{
		Containerd: s.containerd, Reference: s.container, Name: "another", Options: &api.Options{IdempotencyKey: "one"},
	})
	if status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("Snapshot under another request's key: %w", err)
	}
	list, err := s.admin.List(s.ctx, &api.ListRequest{})
	if err != nil {
		return fmt.Errorf("List: %w", err)
	}
	none, err := drain(func() ([]*api.Snapshot, error) {
		batch, err := list.Recv()
		return batch.GetSnapshots(), err
	})
	if err != nil || slices.ContainsFunc(none, func(one *api.Snapshot) bool { return one.Name == "another" }) {
		return fmt.Errorf("List: what was refused is in %v: %w", none, err)
	}
	return nil
}

// clear removes all snapshots that were kept: containers are the caller's.
func (s *session) clear() error {
	if _, err := s.admin.Remove(s.ctx, &api.RemoveRequest{Containerd: s.containerd, Reference: "snapshot:state"}); err != nil {
		return fmt.Errorf("Remove: %w", err)
	}
	told, err := s.prune(true)
	if err != nil {
		return err
	}
	gone, err := s.prune(false)
	if err != nil {
		return err
	}
	// What the rollback and the promotion kept, and the watched one.
	if len(told) != 3 || len(gone) != 3 {
		return fmt.Errorf("Prune: %v, then %v", told, gone)
	}
	return nil
}

func (s *session) prune(dryRun bool) ([]*api.Snapshot, error) {
	s.called["Prune"] = true
	filter := &api.PruneRequest{Containerd: s.containerd, Container: s.container, DryRun: dryRun}
	gone, err := s.admin.Prune(s.ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("Prune: %w", err)
	}
	return drain(func() ([]*api.Snapshot, error) {
		batch, err := gone.Recv()
		return batch.GetSnapshots(), err
	})
}

// drain reads a stream to its end.
func drain[T any](receive func() ([]T, error)) ([]T, error) {
	var all []T
	for {
		batch, err := receive()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, batch...)
	}
}
