// Package scenarios holds the scenario files that ship with cnitest, one behaviour of a CNI plugin each.
//
// It is data only: package scenario reads the files and its tests validate them (go test ./e2e/scenario).
package scenarios

import "embed"

// Files are the scenario files, all at the root and named after their scenario.
//
//go:embed *.yaml
var Files embed.FS
