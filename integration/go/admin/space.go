package main

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"loom.test/integration/admin/api"
)

// space asks for all that tells and keeps space. The pool is a directory of loomd's configuration.
func (s *session) space() error {
	if _, err := s.admin.CreatePool(s.ctx, &api.CreatePoolRequest{Size: 1 << 30}); status.Code(err) != codes.FailedPrecondition {
		return fmt.Errorf("CreatePool where there is one: %w", err)
	}
	if _, err := s.admin.GrowPool(s.ctx, &api.GrowPoolRequest{Size: 1 << 40}); status.Code(err) != codes.FailedPrecondition {
		return fmt.Errorf("GrowPool of a directory: %w", err)
	}
	s.called["MoveToPool"] = true
	moves, err := s.admin.MoveToPool(s.ctx, &api.MoveToPoolRequest{Containerd: s.containerd, References: []string{s.container}})
	if err != nil {
		return fmt.Errorf("MoveToPool: %w", err)
	}
	if moved, err := moves.Recv(); err != nil || moved.Container != s.container {
		return fmt.Errorf("MoveToPool: %v, %w", moved, err)
	}
	limited, err := s.admin.Limit(s.ctx, &api.LimitRequest{Containerd: s.containerd, Reference: s.container, Bytes: 1 << 30})
	if err != nil || limited.Bytes != 1<<30 {
		return fmt.Errorf("Limit: %v, %w", limited, err)
	}
	s.called["DiskUsage"] = true
	usage, err := s.admin.DiskUsage(s.ctx, &api.DiskUsageRequest{Containerd: s.containerd})
	if err != nil {
		return fmt.Errorf("DiskUsage: %w", err)
	}
	rows, err := drain(func() ([]*api.DiskUsage, error) {
		batch, err := usage.Recv()
		return batch.GetRows(), err
	})
	ours := func(row *api.DiskUsage) bool { return row.Name == s.container && row.Limit == 1<<30 }
	if err != nil || !slices.ContainsFunc(rows, ours) {
		return fmt.Errorf("DiskUsage: %v, %w", rows, err)
	}
	s.called["Check"] = true
	check, err := s.admin.Check(s.ctx, &api.CheckRequest{Containerd: s.containerd})
	if err != nil {
		return fmt.Errorf("Check: %w", err)
	}
	findings, err := drain(func() ([]*api.Finding, error) {
		batch, err := check.Recv()
		return batch.GetFindings(), err
	})
	if err != nil || len(findings) > 0 {
		return fmt.Errorf("Check: %v, %w", findings, err)
	}
	return nil
}
