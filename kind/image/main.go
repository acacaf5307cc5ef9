// Command image packs a tar file as the single layer of an image archive, which `docker load` and `ctr images import`
// read.
//
//	tar -C root -c . >layer.tar && image -layer layer.tar -name localhost/x:1 -o x.tar -entrypoint /x
//
// It pulls nothing and needs no daemon.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var entrypoint, command, env, names list
	layer := flag.String("layer", "", "tar file with the image's files")
	out := flag.String("o", "", "archive to write")
	user := flag.String("user", "", "user of the image's processes")
	stop := flag.String("stop-signal", "", "signal that ends a container")
	flag.Var(&names, "name", "name with tag; may be given several times")
	flag.Var(&entrypoint, "entrypoint", "program and, given again, its arguments")
	flag.Var(&command, "cmd", "argument where a container gives none; may be given several times")
	flag.Var(&env, "env", "NAME=VALUE; may be given several times")
	flag.Parse()
	if *layer == "" || *out == "" || len(names) == 0 {
		return errors.New("want -layer, -name and -o")
	}
	files, err := tarball.LayerFromFile(*layer, tarball.WithCompressionLevel(0))
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, files)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture()
	config.Config = v1.Config{Entrypoint: entrypoint, Cmd: command, Env: env, User: *user, StopSignal: *stop}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	tagged := map[name.Reference]v1.Image{}
	for _, n := range names {
		tag, err := name.NewTag(n)
		if err != nil {
			return err
		}
		tagged[tag] = image
	}
	return tarball.MultiRefWriteToFile(*out, tagged)
}

// architecture returns GOARCH if it is set, or else the architecture that this command was built for.
func architecture() string {
	if arch := os.Getenv("GOARCH"); arch != "" {
		return arch
	}
	return runtime.GOARCH
}
