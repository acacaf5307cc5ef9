package report

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"os"
	"path/filepath"
)

// DescribeProgram returns what the report says of a program: its name, its hash, and the version in it if it is written
// in Go. It is not under test. The error is that of reading the file.
func DescribeProgram(file string) (Plugin, error) {
	plugin := Plugin{Type: filepath.Base(file)}
	data, err := os.ReadFile(file)
	if err != nil {
		return plugin, err
	}
	sum := sha256.Sum256(data)
	plugin.SHA256 = hex.EncodeToString(sum[:])
	// A plugin need not be written in Go.
	if info, err := buildinfo.ReadFile(file); err == nil {
		plugin.Version = info.Main.Version
		for _, dep := range info.Deps {
			// In a binary that was built as a dependency, the module of the program is among the dependencies of the
			// main module.
			if len(info.Path) > len(dep.Path) && info.Path[:len(dep.Path)+1] == dep.Path+"/" {
				plugin.Version = dep.Version
			}
		}
	}
	return plugin, nil
}
