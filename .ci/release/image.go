package main

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageName is the name of the image's archive, in the layout of OCI.
const imageName = "cnitest-image.tar"

// image writes an image for each architecture, with one index, as an archive in the layout of OCI.
func (r *release) image() error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range r.architectures {
		image, err := r.imageFor(arch)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	dir, err := os.MkdirTemp("", "cnitest-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		// The tag, as the specification says, and the whole name, which containerd and Docker read.
		"org.opencontainers.image.ref.name": r.tag(), "io.containerd.image.name": "docker.io/library/cnitest:" + r.tag(),
	})); err != nil {
		return err
	}
	archive, err := r.archive(os.DirFS(dir))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dist, imageName), archive, 0o644)
}

// tag is the version as a tag of an image, in which a + is not allowed.
func (r *release) tag() string { return strings.ReplaceAll(r.version, "+", "_") }

// imageFor returns an image whose only file is the binary. The plugins are mounted where runtimes have them.
func (r *release) imageFor(arch string) (v1.Image, error) {
	binary, err := os.ReadFile(r.binary(arch))
	if err != nil {
		return nil, err
	}
	files, err := r.tree(binary)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: r.when}, CreatedBy: "make release",
	}}); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: r.when}
	config.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/cnitest"}, Cmd: []string{"--help"}, WorkingDir: "/work",
		Env: []string{"PATH=/usr/bin:/opt/cni/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.source": "https://github.com/cnitest/cnitest", "org.opencontainers.image.version": r.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, config)
}

// tree is the root of the image: the binary, and the directories that a lab needs or that others are mounted to.
func (r *release) tree(binary []byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range []string{
		"dev/", "etc/", "etc/cni/", "etc/cni/net.d/", "opt/", "opt/cni/", "opt/cni/bin/", "proc/", "root/", "run/", "sys/", "tmp/",
		"usr/", "usr/bin/", "var/", "var/lib/", "var/tmp/", "work/",
	} {
		mode := int64(0o755)
		if name == "tmp/" || name == "var/tmp/" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: r.when}); err != nil {
			return nil, err
		}
	}
	// Plugins look for namespaces below /var/run.
	link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "var/run", Linkname: "../run", Mode: 0o777, ModTime: r.when}
	if err := w.WriteHeader(link); err != nil {
		return nil, err
	}
	if err := r.file(w, "usr/bin/cnitest", 0o755, binary); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

func (r *release) file(w *tar.Writer, name string, mode int64, data []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: r.when}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// archive packs files in the order of their names.
func (r *release) archive(files fs.FS) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: r.when})
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return r.file(w, name, 0o644, data)
	})
	if err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}
