// Command installer puts CNI plugins and their conflist on a Kubernetes node, and takes them away again. It is the one
// program of the DaemonSet in kind/install, in an image without a shell:
//
//	installer install   as init container: the binaries, then the conflist, which tells a runtime to start pods
//	installer hold      as the pod's container: waits, and on SIGTERM uninstalls if the DaemonSet is being deleted
//
// In the conflist ${NODE_NAME}, ${NODE_IP} and ${NODE_INDEX} are replaced, as cnitest replaces them in its labs; the
// index is the third number of the node's pod CIDR, so that a range such as 172.18.${NODE_INDEX}.2 to .254 is the
// node's own; in a cluster without IPv4 it is the last byte of the prefix.
//
// Run its tests: go test ./kind/installer
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "installer: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("want one argument: install or hold")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	paths := Paths{
		Plugins: "/plugins", Conflists: "/conflist",
		BinDir: "/host/opt/cni/bin", ConflistDir: "/host/etc/cni/net.d",
	}
	switch os.Args[1] {
	case "install":
		return install(ctx, paths)
	case "hold":
		<-ctx.Done()
		return uninstall(paths)
	}
	return fmt.Errorf("%q: want install or hold", os.Args[1])
}

func install(ctx context.Context, paths Paths) error {
	api, err := newAPI()
	if err != nil {
		return err
	}
	node := Node{Name: os.Getenv("NODE_NAME"), IP: os.Getenv("NODE_IP")}
	cidr, err := api.podCIDR(ctx, node.Name)
	if err != nil {
		return err
	}
	if node.Index, err = index(cidr); err != nil {
		return fmt.Errorf("node %s: %w", node.Name, err)
	}
	return paths.Install(node)
}

// uninstall does nothing if the DaemonSet still exists: its pods also end when it is updated, and a node without a
// conflist is not ready.
func uninstall(paths Paths) error {
	api, err := newAPI()
	if err != nil {
		return err
	}
	// A pod has 30 s to end.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	gone, err := api.deleted(ctx, os.Getenv("POD_NAMESPACE"), os.Getenv("DAEMONSET"))
	if err != nil {
		return fmt.Errorf("nothing is uninstalled: %w", err)
	}
	if !gone {
		return nil
	}
	return paths.Uninstall()
}

// names returns the files of a directory, as those of a mounted ConfigMap are links beside hidden directories.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.Mode().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
