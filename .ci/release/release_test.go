package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blakesmith/ar"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program writes man pages and completions as cnitest does.
const program = `#!/bin/sh
case $1 in
man) echo ".TH CNITEST 1 $4" > "$2/cnitest.1"; echo .TH CNITEST-RUN 1 > "$2/cnitest-run.1" ;;
completion) echo "# for $2" ;;
*) exit 1 ;;
esac
`

// bench returns a release of two binaries, of which the one for this machine runs.
func bench(t *testing.T, version string) *release {
	t.Helper()
	r := &release{dist: t.TempDir(), version: version, when: time.Unix(1764000000, 0).UTC()}
	for _, arch := range []string{"amd64", "arm64"} {
		text := "the binary for " + arch
		if arch == runtime.GOARCH {
			text = program
		}
		if err := os.WriteFile(filepath.Join(r.dist, binaryPrefix+arch), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func packages(t *testing.T, r *release) map[string][]byte {
	t.Helper()
	if err := r.make(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(r.dist)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), binaryPrefix) {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(r.dist, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// The same binaries give the same bytes, whenever and in whichever time zone.
func TestRelease_reproducible(t *testing.T) {
	first := packages(t, bench(t, "v1.2.3"))
	var names []string
	for name := range first {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"cnitest-1.2.3-1.aarch64.rpm", "cnitest-1.2.3-1.x86_64.rpm", "cnitest-image.tar", "cnitest_1.2.3_amd64.deb",
		"cnitest_1.2.3_arm64.deb",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	time.Sleep(1100 * time.Millisecond) // Times of packages are whole seconds.
	local := time.Local
	time.Local = time.FixedZone("elsewhere", 9*3600)
	defer func() { time.Local = local }()
	for name, again := range packages(t, bench(t, "v1.2.3")) {
		if !bytes.Equal(again, first[name]) {
			t.Errorf("%s: is not the same the second time", name)
		}
	}
}

func TestRelease_number(t *testing.T) {
	for in, want := range map[string][2]string{
		"v1.2.3": {"1.2.3", ""}, "v0.1.0-rc.1": {"0.1.0", "rc.1"}, "f6e5d4c-dirty": {"0.0.0", "git.f6e5d4c.dirty"},
		"v1.2.3-4-gabcdef": {"1.2.3", "4.gabcdef"}, "unreleased": {"0.0.0", "git.unreleased"},
	} {
		number, prerelease := (&release{version: in}).number()
		if got := [2]string{number, prerelease}; got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// TestRelease_deb reads a package as dpkg does.
func TestRelease_deb(t *testing.T) {
	r := bench(t, "v0.1.0-rc.1")
	data := packages(t, r)["cnitest_0.1.0~rc.1_"+runtime.GOARCH+".deb"]
	files, control := map[string]string{}, ""
	for reader := ar.NewReader(bytes.NewReader(data)); ; {
		member, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(member.Name, ".tar.gz") && !strings.HasSuffix(member.Name, ".tar.gz/") {
			continue
		}
		inside := untar(t, reader)
		if strings.HasPrefix(member.Name, "control") {
			control = inside["./control"]
		} else {
			files = inside
		}
	}
	for _, want := range []string{
		"./usr/bin/cnitest", "./usr/share/man/man1/cnitest.1.gz", "./usr/share/man/man1/cnitest-run.1.gz",
		"./usr/share/bash-completion/completions/cnitest", "./usr/share/zsh/site-functions/_cnitest",
		"./usr/share/fish/vendor_completions.d/cnitest.fish",
	} {
		if files[want] == "" {
			t.Errorf("want %s in it, got %d files", want, len(files))
		}
	}
	if files["./usr/bin/cnitest"] != program || files["./usr/share/zsh/site-functions/_cnitest"] != "# for zsh\n" {
		t.Error("want the binary and the script as they are")
	}
	zip, err := gzip.NewReader(strings.NewReader(files["./usr/share/man/man1/cnitest.1.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	if page, err := io.ReadAll(zip); err != nil || string(page) != ".TH CNITEST 1 2025-11-24\n" {
		t.Errorf("got the page %q, %v, want the one with the date of the release", page, err)
	}
	for _, want := range []string{"Package: cnitest\n", "Version: 0.1.0~rc.1\n", "Architecture: " + runtime.GOARCH + "\n"} {
		if !strings.Contains(control, want) {
			t.Errorf("got\n%s\nwant %q in it", control, want)
		}
	}
}

func untar(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for reader := tar.NewReader(zip); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s: belongs to %d:%d, want root", header.Name, header.Uid, header.Gid)
		}
		data, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(data) + header.Linkname
	}
}

// TestRelease_image reads the image as container tools do.
func TestRelease_image(t *testing.T) {
	r := bench(t, "v1.2.3")
	archive := packages(t, r)[imageName]
	dir := t.TempDir()
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, header.Name)
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			data, readErr := io.ReadAll(reader)
			err = errors.Join(readErr, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	outer, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	names := outer.Manifests[0].Annotations
	if names["org.opencontainers.image.ref.name"] != "v1.2.3" ||
		names["io.containerd.image.name"] != "docker.io/library/cnitest:v1.2.3" {
		t.Errorf("got the names %q, want the tag and the whole name", names)
	}
	all, err := index.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var architectures []string
	for _, m := range manifest.Manifests {
		architectures = append(architectures, m.Platform.Architecture)
		image, err := all.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, r, m.Platform.Architecture, image)
	}
	if !slices.Equal(architectures, []string{"amd64", "arm64"}) {
		t.Errorf("got %q, want both architectures", architectures)
	}
}

func checkImage(t *testing.T, r *release, arch string, image v1.Image) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	packed, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, packed)
	binary, err := os.ReadFile(r.binary(arch))
	if err != nil {
		t.Fatal(err)
	}
	if files["usr/bin/cnitest"] != string(binary) || files["var/run"] != "../run" {
		text, _ := json.Marshal(files)
		t.Errorf("%s: got files %.200s, want the binary, and var/run", arch, text)
	}
	if config.Architecture != arch || !slices.Equal(config.Config.Entrypoint, []string{"/usr/bin/cnitest"}) {
		t.Errorf("got %s, %q, want %s and cnitest", config.Architecture, config.Config.Entrypoint, arch)
	}
}

// TestRelease_rpm compares the head of a package with what rpm wants to see there.
func TestRelease_rpm(t *testing.T) {
	data := packages(t, bench(t, "v1.2.3"))["cnitest-1.2.3-1.x86_64.rpm"]
	if !bytes.HasPrefix(data, []byte{0xed, 0xab, 0xee, 0xdb, 3, 0}) {
		t.Errorf("got % x, want the lead of an rpm", data[:6])
	}
	for _, want := range []string{"cnitest-1.2.3-1", "Apache-2.0", "/usr/share/man/man1/", "cnitest-run.1.gz"} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("want %q in its header", want)
		}
	}
}

func TestRelease_refuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *release)
		want   string
	}{
		{"no version", func(r *release) { r.version = "" }, "want a version"},
		{"no binaries", func(r *release) { r.dist = filepath.Join(r.dist, "empty") }, "DIST/empty: there is no cnitest-linux-ARCH in it"},
		{"none that runs here", func(r *release) { _ = os.Remove(r.binary(runtime.GOARCH)) }, "want DIST/cnitest-linux-" + runtime.GOARCH + ", which runs here and writes the man pages"},
		{"one that fails", func(r *release) {
			_ = os.WriteFile(r.binary(runtime.GOARCH), []byte("#!/bin/sh\necho broken >&2\nexit 3\n"), 0o755)
		}, "exit status 3: broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := bench(t, "v1.2.3")
			dist := r.dist
			tt.change(r)
			err := r.make()
			if err == nil || !strings.HasSuffix(strings.ReplaceAll(err.Error(), dist, "DIST"), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
