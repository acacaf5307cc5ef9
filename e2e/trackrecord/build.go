package trackrecord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// build makes the programs that the rows need of each version from the modules in versions/. Programs that a module
// does not have are this repository's: plugins and daemons that some chains need beside the plugin that is tested, and
// programs of directories of Dir.
func (r *Runner) build(ctx context.Context, rows []*Defect) error {
	types := map[string][]string{}
	for _, d := range rows {
		for _, version := range d.versions() {
			types[d.module(version)] = append(types[d.module(version)], d.Caught.types...)
		}
	}
	var errs []error
	for _, d := range rows {
		for _, version := range d.versions() {
			module := d.module(version)
			if types[module] == nil {
				continue
			}
			begin := time.Now()
			err := r.buildModule(ctx, filepath.Join(r.Dir, module), r.programs(d, version), types[module])
			types[module] = nil
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Printf("built   %s in %.1f s\n", filepath.Base(module), time.Since(begin).Seconds())
		}
	}
	return errors.Join(errs...)
}

// programs is the directory of a version's programs.
func (r *Runner) programs(d *Defect, version string) string {
	return filepath.Join(r.Programs, filepath.Base(d.module(version)))
}

// buildModule builds the plugins of these types, and takes those that the module does not have from this repository.
func (r *Runner) buildModule(ctx context.Context, module, into string, types []string) error {
	types, err := Build(ctx, module, into, types)
	if err != nil {
		return err
	}
	for _, own := range types {
		if _, err := os.Stat(filepath.Join(r.Dir, own, "main.go")); err == nil {
			target, err := filepath.Abs(filepath.Join(into, own))
			if err == nil {
				_, err = goTool(ctx, filepath.Join(r.Dir, own), "build", "-trimpath", "-o", target, ".")
			}
			if err != nil {
				return err
			}
			continue
		}
		program, err := os.ReadFile(filepath.Join(filepath.Dir(r.Cnitest), own))
		if err != nil {
			return fmt.Errorf("%s has no plugin %s: %w", module, own, err)
		}
		if err := os.WriteFile(filepath.Join(into, own), program, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Build builds the plugins of these types among the tools that a go.mod names, with the modules that it pins: without
// cgo, as all plugins here. It returns the types that the module does not have.
func Build(ctx context.Context, module, into string, types []string) (missing []string, err error) {
	into, err = filepath.Abs(into)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return nil, err
	}
	listed, err := goTool(ctx, module, "list", "tool")
	if err != nil {
		return nil, err
	}
	args := []string{"build", "-trimpath", "-o", into + "/"}
	for _, tool := range strings.Fields(listed) {
		if slices.Contains(types, path.Base(tool)) {
			args = append(args, tool)
		}
		types = slices.DeleteFunc(slices.Clone(types), func(name string) bool { return name == path.Base(tool) })
	}
	_, err = goTool(ctx, module, args...)
	return types, err
}

// goTool runs go in a module, and returns what it prints.
func goTool(ctx context.Context, module string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: go %s: %w: %s", module, args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
