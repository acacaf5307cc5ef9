// Command release makes packages of the cnitest binaries in a directory: deb and rpm with man pages and completions for
// shells, and an image in the layout of OCI for all architectures. It is run by make release.
//
// The same binaries and the same time give the same bytes, on any machine.
//
// Run its tests: cd .ci/release && go test ./...
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// release is what is packaged.
type release struct {
	// dist has cnitest-linux-ARCH, and gets the packages.
	dist string
	// version is the name of the release, as in cnitest --version.
	version string
	// when is the time of all files.
	when time.Time
	// architectures are those of Go.
	architectures []string
}

func main() {
	r := release{}
	var seconds int64
	flag.StringVar(&r.dist, "dist", "dist", "directory of the binaries and packages")
	flag.StringVar(&r.version, "version", "", "version of the release")
	flag.Int64Var(&seconds, "time", 0, "time of all files, in seconds since 1970")
	flag.Parse()
	r.when = time.Unix(seconds, 0).UTC()
	if err := r.make(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// binaryPrefix starts the names of the binaries.
const binaryPrefix = "cnitest-linux-"

// make makes all packages.
func (r *release) make() error {
	if r.version == "" {
		return fmt.Errorf("want a version")
	}
	files, err := filepath.Glob(filepath.Join(r.dist, binaryPrefix+"*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		r.architectures = append(r.architectures, strings.TrimPrefix(filepath.Base(file), binaryPrefix))
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: there is no %sARCH in it", r.dist, binaryPrefix)
	}
	extras, cleanUp, err := r.extras()
	if err != nil {
		return err
	}
	defer cleanUp()
	for _, arch := range r.architectures {
		for _, format := range []string{"deb", "rpm"} {
			if err := r.pack(format, arch, extras); err != nil {
				return fmt.Errorf("%s for %s: %w", format, arch, err)
			}
		}
	}
	if err := r.image(); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

func (r *release) binary(arch string) string { return filepath.Join(r.dist, binaryPrefix+arch) }

// semver is the form of the version of a release.
var semver = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(-[0-9A-Za-z.-]+)?$`)

// number returns the version for packages, which begins with a digit: that of a build between releases comes before all
// releases.
func (r *release) number() (version, prerelease string) {
	if m := semver.FindStringSubmatch(r.version); m != nil {
		return m[1], strings.TrimPrefix(strings.ReplaceAll(m[2], "-", "."), ".")
	}
	word := regexp.MustCompile(`[^0-9A-Za-z]+`).ReplaceAllString(r.version, ".")
	return "0.0.0", "git." + strings.Trim(word, ".")
}

// has reports whether there is a binary for an architecture.
func (r *release) has(arch string) bool { return slices.Contains(r.architectures, arch) }
