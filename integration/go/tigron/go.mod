// Stands in for a module that only nerdctl's tests use.
module github.com/containerd/nerdctl/mod/tigron

go 1.24
