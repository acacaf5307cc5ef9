package kind

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// podImage is an image that contains only this program.
type podImage struct {
	ref    string
	binary string
	sum    string // the first digits of the binary's sum
	pulled bool   // the nodes pull it from ref
}

func newPodImage(binary, ref string) (*podImage, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", binary, err)
	}
	defer file.Close()
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		return nil, fmt.Errorf("program %s: want a static one, which runs in an image of its own; build it with "+
			"CGO_ENABLED=0", binary)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	i := &podImage{ref: ref, binary: binary, sum: hex.EncodeToString(sum[:])[:12], pulled: ref != ""}
	if ref == "" {
		i.ref = imageRepository + ":" + i.sum
	}
	return i, nil
}

// archive writes the image in the format that `docker load` and `ctr images import` read.
func (i *podImage) archive(to io.Writer) error {
	data, err := os.ReadFile(i.binary)
	if err != nil {
		return err
	}
	var files bytes.Buffer
	writer := tar.NewWriter(&files)
	// Probes and pods write files only here.
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return err
	}
	if err := writer.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: "cnitest", Mode: 0o755, Size: int64(len(data)),
	}); err != nil {
		return err
	}
	if _, err := writer.Write(data); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	}, tarball.WithCompressionLevel(1))
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	if config = config.DeepCopy(); config.OS == "" {
		config.OS = "linux"
	}
	if config.Architecture, err = architecture(i.binary); err != nil {
		return err
	}
	config.Config = v1.Config{Entrypoint: []string{"/cnitest"}}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	tag, err := name.NewTag(i.ref)
	if err != nil {
		return err
	}
	return tarball.Write(tag, image, to)
}

// architecture returns the architecture of a program, as Go and images name it.
func architecture(binary string) (string, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return "", err
	}
	defer file.Close()
	switch file.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("program %s: want one for amd64 or arm64, got %s", binary, file.Machine)
}
