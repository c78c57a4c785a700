package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"loom.test/integration/admin/api"
)

// The images that are made; they are the caller's to remove.
const (
	made     = "localhost/made:v1"
	tagged   = "localhost/tagged:v1"
	imported = "localhost/imported:v1"
)

// images makes an image of the state, and of it everything that can be.
func (s *session) images() error {
	commit := &api.CommitRequest{
		Containerd: s.containerd, Reference: "snapshot:state", Image: made, Changes: []string{"ENV A=b"},
		Author: "nobody", Message: "made from Go",
	}
	one, err := s.admin.Commit(s.ctx, commit)
	if err != nil {
		return fmt.Errorf("Commit: %w", err)
	}
	if one.Image.Name != made || one.Image.Portable || one.Operation == "" || one.Image.Snapshot == "" {
		return fmt.Errorf("Commit: %v", one)
	}
	if _, err := s.admin.Commit(s.ctx, commit); status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("Commit of a name in use: %w", err)
	}
	other, err := s.admin.Tag(s.ctx, &api.TagRequest{Containerd: s.containerd, Image: made, Name: tagged})
	if err != nil {
		return fmt.Errorf("Tag: %w", err)
	}
	if other.Image.Name != tagged || other.Image.Digest != one.Image.Digest {
		return fmt.Errorf("Tag: %v", other)
	}
	written, err := s.admin.Portable(s.ctx, &api.PortableRequest{
		Containerd: s.containerd, Image: made, Compression: api.Compression_COMPRESSION_GZIP,
	})
	if err != nil {
		return fmt.Errorf("Portable: %w", err)
	}
	if !written.Image.Portable || !strings.HasPrefix(written.Layer, "sha256:") || written.LayerSize == 0 {
		return fmt.Errorf("Portable: %v", written)
	}
	s.called["Images"] = true
	list, err := s.admin.Images(s.ctx, &api.ImagesRequest{Containerd: s.containerd})
	if err != nil {
		return fmt.Errorf("Images: %w", err)
	}
	all, err := drain(func() ([]*api.Image, error) {
		batch, err := list.Recv()
		return batch.GetImages(), err
	})
	if err != nil {
		return fmt.Errorf("Images: %w", err)
	}
	for _, name := range []string{made, tagged} {
		if !slices.ContainsFunc(all, func(one *api.Image) bool { return one.Name == name }) {
			return fmt.Errorf("Images: %s is not in %v", name, all)
		}
	}
	return nil
}

// archives exports the state, imports a part of it, and compares the two.
func (s *session) archives() error {
	s.called["Export"] = true
	parts, err := s.admin.Export(s.ctx, &api.ExportRequest{Containerd: s.containerd, Reference: "snapshot:state"})
	if err != nil {
		return fmt.Errorf("Export: %w", err)
	}
	archive, err := drain(func() ([]byte, error) {
		part, err := parts.Recv()
		return part.GetData(), err
	})
	if err != nil {
		return fmt.Errorf("Export: %w", err)
	}
	part, err := without(archive, "etc/passwd")
	if err != nil {
		return fmt.Errorf("Export: %w", err)
	}

	s.called["Import"] = true
	// An archive that is left before its end is none.
	cut, err := s.admin.Import(s.ctx)
	if err != nil {
		return fmt.Errorf("Import: %w", err)
	}
	_, err = s.send(cut, part[:len(part)/2], false)
	if status.Code(err) != codes.Aborted {
		return fmt.Errorf("Import of half an archive: %w", err)
	}
	whole, err := s.admin.Import(s.ctx)
	if err != nil {
		return fmt.Errorf("Import: %w", err)
	}
	made, err := s.send(whole, part, true)
	if err != nil {
		return fmt.Errorf("Import: %w", err)
	}
	if made.Image.Name != imported || !made.Image.Portable || made.Operation == "" {
		return fmt.Errorf("Import: %v", made)
	}

	s.called["Diff"] = true
	differences, err := s.admin.Diff(s.ctx, &api.DiffRequest{
		Containerd: s.containerd, From: "snapshot:state", To: "image:" + imported, Patch: true,
	})
	if err != nil {
		return fmt.Errorf("Diff: %w", err)
	}
	changes, err := drain(func() ([]*api.Change, error) {
		batch, err := differences.Recv()
		return batch.GetChanges(), err
	})
	if err != nil {
		return fmt.Errorf("Diff: %w", err)
	}
	if len(changes) != 1 || changes[0].Path != "etc/passwd" || changes[0].After != nil ||
		changes[0].Kind != api.ChangeKind_CHANGE_KIND_DELETED || changes[0].Before.GetType() != "file" ||
		!strings.Contains(changes[0].Patch, "\n-root:") {
		return fmt.Errorf("Diff: %v", changes)
	}
	return nil
}

// send sends an archive, part by part as each is answered, and then its end, or hangs up.
func (s *session) send(stream api.Admin_ImportClient, archive []byte, whole bool) (*api.ImportResponse, error) {
	to := &api.ImportTo{Containerd: s.containerd, Image: imported, Changes: []string{`CMD ["/bin/sh"]`}}
	if err := stream.Send(&api.ImportRequest{To: to}); err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); err != nil {
		return nil, err
	}
	var offset uint64
	for part := range slices.Chunk(archive, 1<<20) {
		if err := stream.Send(&api.ImportRequest{Data: part, Offset: offset}); err != nil {
			return nil, err
		}
		offset += uint64(len(part))
		for {
			answer, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			if answer.Received == offset {
				break
			}
		}
	}
	if whole {
		if err := stream.Send(&api.ImportRequest{Offset: offset, End: true}); err != nil {
			return nil, err
		}
	} else if err := stream.(ttrpc.ClientStream).CloseSend(); err != nil {
		return nil, err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if answer.Image != nil {
			return answer, nil
		}
	}
}

// without is an archive without one of its files.
func without(archive []byte, name string) ([]byte, error) {
	var rest bytes.Buffer
	from, to := tar.NewReader(bytes.NewReader(archive)), tar.NewWriter(&rest)
	found := false
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if strings.Trim(header.Name, "./") == name {
			found = true
			continue
		}
		if err := to.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := io.Copy(to, from); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, fmt.Errorf("%s is not in the archive", name)
	}
	err := to.Close()
	return rest.Bytes(), err
}
