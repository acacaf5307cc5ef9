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
	missing, err := Build(ctx, module, into, types)
	if err != nil {
		return err
	}
	return BuildOwn(ctx, r.Dir, filepath.Dir(r.Cnitest), into, missing)
}

// BuildOwn puts programs of this repository beside those of a version: those with a directory in dir are built, others
// are copied from bin.
func BuildOwn(ctx context.Context, dir, bin, into string, names []string) error {
	for _, name := range names {
		target, err := filepath.Abs(filepath.Join(into, name))
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, name, "main.go")); err == nil {
			if _, err := goTool(ctx, filepath.Join(dir, name), "build", "-trimpath", "-o", target, "."); err != nil {
				return err
			}
			continue
		}
		program, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			return fmt.Errorf("%s: neither the version nor this repository has the plugin %s: %w", into, name, err)
		}
		if err := os.WriteFile(target, program, 0o755); err != nil {
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
	plain := len(args)
	for _, tool := range strings.Fields(listed) {
		name := programOf(tool)
		switch {
		case !slices.Contains(types, name):
		case name == path.Base(tool):
			args = append(args, tool)
		default:
			if _, err := goTool(ctx, module, "build", "-trimpath", "-o", filepath.Join(into, name), tool); err != nil {
				return nil, err
			}
		}
		types = slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == name })
	}
	if len(args) > plain {
		_, err = goTool(ctx, module, args...)
	}
	return types, err
}

// programOf is the name of a package's program: that of its directory, or of the project if the directory is cmd.
func programOf(pkg string) string {
	if path.Base(pkg) == "cmd" {
		pkg = path.Dir(pkg)
	}
	return path.Base(pkg)
}

// ModuleDir is where the files of the module are from which a go.mod's first tool comes.
func ModuleDir(ctx context.Context, module string) (string, error) {
	dirs, err := goTool(ctx, module, "list", "-f", "{{.Module.Dir}}", "tool")
	dir, _, _ := strings.Cut(dirs, "\n")
	return dir, err
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
