package main

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers the format
)

// pack writes a package of a format. Its name is the one that the format's tools expect.
func (r *release) pack(format, arch string, extras []extra) error {
	number, prerelease := r.number()
	content := func(source, place string, mode os.FileMode) *files.Content {
		return &files.Content{Source: source, Destination: place, FileInfo: &files.ContentFileInfo{
			Owner: "root", Group: "root", Mode: mode, MTime: r.when,
		}}
	}
	contents := files.Contents{content(r.binary(arch), "/usr/bin/cnitest", 0o755)}
	for _, e := range extras {
		contents = append(contents, content(e.source, e.place, 0o644))
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "cnitest", Arch: arch, Platform: "linux", Version: number, Prerelease: prerelease,
		Section: "net", Priority: "optional", Maintainer: "cnitest <https://github.com/cnitest/cnitest>",
		Description: "Conformance tests for CNI plugins of underlay networks",
		Homepage:    "https://github.com/cnitest/cnitest", License: "Apache-2.0", MTime: r.when,
		Overridables: nfpm.Overridables{Contents: contents, RPM: nfpm.RPM{BuildHost: "cnitest", Summary: "Conformance tests for CNI plugins"}},
	})
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	info.Target = filepath.Join(r.dist, packager.ConventionalFileName(info))
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := packager.Package(info, &archive); err != nil {
		return err
	}
	return os.WriteFile(info.Target, archive.Bytes(), 0o644)
}
