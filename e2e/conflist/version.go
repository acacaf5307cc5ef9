package conflist

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/version"
)

// At returns the list as a runtime reads it that knows no later version of the specification: plugins are called at the
// highest version of the list up to that one, or, if all versions of the list are later, at that one itself.
func (f *File) At(runtime string) (*File, error) {
	known := version.All.SupportedVersions()
	if !slices.Contains(known, runtime) {
		return nil, fmt.Errorf("version %q of the CNI specification: want one of %s", runtime,
			strings.Join(known, ", "))
	}
	at := *f
	at.at = runtime
	for _, v := range known {
		if (v == f.CNIVersion || slices.Contains(f.CNIVersions, v)) && !later(v, runtime) {
			at.at = v
		}
	}
	at.CNIVersion, at.CNIVersions = at.at, nil
	return &at, nil
}

// Runtime returns the version of the runtime that At set, and false if every version may be used.
func (f *File) Runtime() (string, bool) { return f.at, f.at != "" }

// later reports whether a version comes after another.
func later(v, than string) bool {
	later, err := version.GreaterThan(v, than)
	return err == nil && later
}
