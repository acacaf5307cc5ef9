package cni_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
)

// The results of the plugins first and second of a chain.
const (
	firstResult  = `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/pod"}]}`
	secondResult = `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/pod"},{"name":"second"}]}`
)

// chain is a conflist of plugins that answer ADD with a result and all other verbs with an empty output.
const chain = `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"first","capabilities":{"portMappings":true}},{"type":"second"}]}`

func chainPlugins(tb testing.TB) string {
	tb.Helper()
	answer := func(result string) string {
		return `cat >/dev/null; [ "$CNI_COMMAND" != ADD ] || echo '` + result + `'`
	}
	return plugins(tb, map[string]string{"first": answer(firstResult), "second": answer(secondResult)})
}

// emptyCache removes entries of other tests from the cache, and at the end those of this one.
func emptyCache(tb testing.TB) {
	tb.Helper()
	check(tb, os.RemoveAll(cni.CacheDir))
	tb.Cleanup(func() { check(tb, os.RemoveAll(cni.CacheDir)) })
}

func request(verb cni.Verb, conflist, dir string) cni.Request {
	return cni.Request{
		Verb: verb, Conflist: []byte(conflist), BinDirs: []string{dir}, ContainerID: "c", Netns: "/run/netns/pod",
		IfName: "eth0",
		Args:   [][2]string{{"K8S_POD_NAME", "pod"}}, CapabilityArgs: map[string]any{
			"portMappings": []int{80}, "bandwidth": 1,
		},
	}
}

// seen is the part of a plugin's input that tests compare.
type seen struct{ Plugin, Verb, Stdin, ContainerID, Netns, IfName, Args string }

func run(tb testing.TB, req cni.Request) (*cni.Outcome, []seen) {
	tb.Helper()
	var after []cni.Call
	out, err := cni.Run(tb.Context(), req, func(c cni.Call) { after = append(after, c) })
	check(tb, err)
	if diff := cmp.Diff(out.Calls, after); diff != "" {
		tb.Errorf("calls (-outcome +after):\n%s", diff)
	}
	var all []seen
	for _, c := range out.Calls {
		env := map[string]string{}
		for _, e := range c.Env {
			name, value, _ := strings.Cut(e, "=")
			env[name] = value
			if !strings.HasPrefix(name, "CNI_") && name != "PATH" {
				tb.Errorf("got %s in the environment, want only CNI_* and PATH", e)
			}
		}
		if got, want := env["CNI_PATH"], req.BinDirs[0]; got != want {
			tb.Errorf("got CNI_PATH=%s, want %s", got, want)
		}
		all = append(all, seen{
			c.Plugin, string(c.Verb), c.Stdin, env["CNI_CONTAINERID"], env["CNI_NETNS"], env["CNI_IFNAME"],
			env["CNI_ARGS"],
		})
	}
	return out, all
}

// sameJSON compares the input of plugins as documents.
var sameJSON = cmp.FilterPath(func(p cmp.Path) bool {
	return p.Last().String() == ".Stdin"
}, cmp.Transformer("json", func(s string) any {
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	return v
}))

// sameCalls compares the input of a verb's calls with the wanted one.
func sameCalls(t *testing.T, verb string, want, got []seen) {
	t.Helper()
	if diff := cmp.Diff(want, got, sameJSON); diff != "" {
		t.Errorf("%s (-want +got):\n%s", verb, diff)
	}
}

func TestRun(t *testing.T) {
	emptyCache(t)
	t.Setenv("CNI_STRAY", "of the process")
	t.Setenv("HOME", "/root")
	const (
		// libcni does not remove "capabilities", as the spec demands (SPEC.md, section 3).
		config1 = `{"cniVersion":"1.1.0","name":"net","type":"first","capabilities":{"portMappings":true},"runtimeConfig":{"portMappings":[80]}`
		config2 = `{"cniVersion":"1.1.0","name":"net","type":"second"`
		final   = `,"prevResult":` + secondResult + `}`
		id      = "K8S_POD_NAME=pod"
	)
	dir := chainPlugins(t)
	cache := cni.CachePath("net", "c", "eth0")

	out, calls := run(t, request(cni.Add, chain, dir))
	check(t, out.Err())
	want := []seen{
		{"first", "ADD", config1 + "}", "c", "/run/netns/pod", "eth0", id},
		{"second", "ADD", config2 + `,"prevResult":` + firstResult + `}`, "c", "/run/netns/pod", "eth0", id},
	}
	sameCalls(t, "ADD", want, calls)
	var compact any
	check(t, json.Unmarshal(out.Result, &compact))
	text, err := json.Marshal(compact)
	check(t, err)
	if got := string(text); got != secondResult {
		t.Errorf("got the result %s, want %s", got, secondResult)
	}
	if _, err := os.Stat(cache); err != nil {
		t.Errorf("want the result in %s, got %v", cache, err)
	}

	out, calls = run(t, request(cni.Check, chain, dir))
	check(t, out.Err())
	want = []seen{
		{"first", "CHECK", config1 + final, "c", "/run/netns/pod", "eth0", id},
		{"second", "CHECK", config2 + final, "c", "/run/netns/pod", "eth0", id},
	}
	sameCalls(t, "CHECK", want, calls)

	out, calls = run(t, request(cni.Status, chain, dir))
	check(t, out.Err())
	const static1 = `{"cniVersion":"1.1.0","name":"net","type":"first","capabilities":{"portMappings":true}`
	want = []seen{
		{"first", "STATUS", static1 + "}", "", "", "", ""}, {"second", "STATUS", config2 + "}", "", "", "", ""},
	}
	sameCalls(t, "STATUS", want, calls)

	gc := request(cni.GC, chain, dir)
	gc.ContainerID, gc.Netns, gc.IfName, gc.Args = "", "", "", nil
	gc.ValidAttachments = []cni.Attachment{{ContainerID: "c", IfName: "eth0"}}
	out, calls = run(t, gc)
	check(t, out.Err())
	const valid = `,"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}],"cni.dev/attachments":[{"containerID":"c","ifname":"eth0"}]}`
	want = []seen{{"first", "GC", static1 + valid, "", "", "", ""}, {"second", "GC", config2 + valid, "", "", "", ""}}
	sameCalls(t, "GC", want, calls)

	out, calls = run(t, request(cni.Del, chain, dir))
	check(t, out.Err())
	want = []seen{
		{"second", "DEL", config2 + final, "c", "/run/netns/pod", "eth0", id},
		{"first", "DEL", config1 + final, "c", "/run/netns/pod", "eth0", id},
	}
	sameCalls(t, "DEL", want, calls)
	if _, err := os.Stat(cache); !os.IsNotExist(err) {
		t.Errorf("want nothing in %s, got %v", cache, err)
	}
}

// If no attachment is valid, the list is empty, which differs from a missing list.
func TestRun_gc_of_everything(t *testing.T) {
	emptyCache(t)
	dir := chainPlugins(t)
	out, _ := run(t, request(cni.Add, chain, dir))
	check(t, out.Err())
	out, calls := run(t, cni.Request{Verb: cni.GC, Conflist: []byte(chain), BinDirs: []string{dir}})
	check(t, out.Err())
	const none = `,"cni.dev/valid-attachments":[],"cni.dev/attachments":[]}`
	var verbs []string
	for _, c := range calls {
		verbs = append(verbs, c.Plugin+" "+c.Verb)
	}
	if diff := cmp.Diff([]string{"second DEL", "first DEL", "first GC", "second GC"}, verbs); diff != "" {
		t.Fatalf("GC (-want +got):\n%s", diff)
	}
	want := seen{Plugin: "second", Verb: "GC", Stdin: `{"cniVersion":"1.1.0","name":"net","type":"second"` + none}
	if diff := cmp.Diff(want, calls[3], sameJSON); diff != "" {
		t.Errorf("GC of second (-want +got):\n%s", diff)
	}
}

func TestRun_failure(t *testing.T) {
	dir := plugins(t, map[string]string{
		"good":     `cat >/dev/null; [ "$CNI_COMMAND" != ADD ] || echo '` + firstResult + `'`,
		"coded":    `cat >/dev/null; echo '{"cniVersion": "1.1.0", "code": 11, "msg": "no addresses", "details": "try later"}'; echo noise >&2; exit 1`,
		"mute":     `cat >/dev/null; exit 2`,
		"talks":    `cat >/dev/null; echo 'panic: nil'; echo 'goroutine 1' >&2; exit 2`,
		"two":      `cat >/dev/null; echo '{"cniVersion": "1.1.0"}'; echo '{}'`,
		"garbage":  `cat >/dev/null; echo 'level=info starting'; echo '{"cniVersion": "1.1.0"}'`,
		"nothing":  `cat >/dev/null`,
		"other":    `cat >/dev/null; echo '{"cniVersion": "9.9.9"}'`,
		"hangs":    `exec sleep 1006`,
		"killed":   `kill -9 $$`,
		"daemon":   `cat >/dev/null; sleep 1007 & echo '` + firstResult + `'`,
		"not-code": `cat >/dev/null; echo '{"status": "bad"}'; exit 1`,
	})
	for _, tt := range []struct {
		name     string
		verb     cni.Verb
		plugins  []string
		version  string
		timeout  time.Duration
		ifName   string
		want     cni.Error
		wantText string
	}{
		{
			name: "error object", plugins: []string{"good", "coded"},
			want:     cni.Error{Plugin: "coded", Code: 11, Msg: "no addresses", Details: "try later"},
			wantText: "coded: no addresses; try later (code 11)",
		},
		{
			name: "no error object", plugins: []string{"mute"},
			want:     cni.Error{Plugin: "mute", Msg: "exit status 2 without an error object on stdout"},
			wantText: "mute: exit status 2 without an error object on stdout",
		},
		{
			name: "text", plugins: []string{"talks"},
			want: cni.Error{
				Plugin: "talks", Msg: "exit status 2 without an error object on stdout",
				Details: "panic: nil\n\ngoroutine 1",
			},
			wantText: "talks: exit status 2 without an error object on stdout; panic: nil",
		},
		{
			name: "object that is no error", plugins: []string{"not-code"},
			want: cni.Error{
				Plugin: "not-code", Msg: "exit status 1 without an error object on stdout",
				Details: `{"status": "bad"}`,
			},
			wantText: `not-code: exit status 1 without an error object on stdout; {"status": "bad"}`,
		},
		{
			name: "two documents", plugins: []string{"good", "two"},
			want: cni.Error{
				Plugin: "two", Msg: `stdout of ADD is no result: plugin type="two" failed (add): failed to unmarshal ` +
					`raw result: invalid character '{' after top-level value`,
				Details: "{\"cniVersion\": \"1.1.0\"}\n{}",
			},
		},
		{
			name: "text before the result", plugins: []string{"garbage", "good"},
			want: cni.Error{
				Plugin: "garbage", Msg: `stdout of ADD is no result: plugin type="garbage" failed (add): failed to ` +
					`unmarshal raw result: invalid character 'l' looking for beginning of value`,
				Details: "level=info starting\n{\"cniVersion\": \"1.1.0\"}",
			},
		},
		{
			name: "no result", plugins: []string{"nothing"},
			want: cni.Error{Plugin: "nothing", Msg: `stdout of ADD is no result: plugin type="nothing" failed (add): ` +
				`failed to unmarshal raw result: unexpected end of JSON input`},
		},
		{
			name: "result of no version", plugins: []string{"other"},
			want: cni.Error{Plugin: "other", Msg: `stdout of ADD is no result: plugin type="other" failed (add): ` +
				`unsupported CNI result version "9.9.9"`, Details: `{"cniVersion": "9.9.9"}`},
		},
		{
			name: "no binary", plugins: []string{"good", "pigeon"},
			want: cni.Error{
				Msg: `plugin type="pigeon" failed (add): failed to find plugin "pigeon" in path [` + dir + `]`,
			},
		},
		{
			name: "interface name", plugins: []string{"good"}, ifName: "much-too-long-name",
			want: cni.Error{
				Code: 4, Msg: "interface name is too long", Details: "interface name should be less than 16 characters",
			},
			wantText: "libcni: interface name is too long; interface name should be less than 16 characters (code 4)",
		},
		{
			name: "time is over", plugins: []string{"hangs"}, timeout: 100 * time.Millisecond,
			want: cni.Error{Plugin: "hangs", Msg: "killed after DURATION without an answer"},
		},
		{name: "signal", plugins: []string{"killed"}, want: cni.Error{Plugin: "killed", Msg: "ended by signal: killed"}},
		{
			name: "daemon", plugins: []string{"daemon"},
			want: cni.Error{
				Plugin: "daemon", Msg: "left a process behind that holds its stdout or stderr open",
				Details: firstResult,
			},
		},
		{
			name: "DEL", verb: cni.Del, plugins: []string{"coded", "good"},
			want: cni.Error{Plugin: "coded", Code: 11, Msg: "no addresses", Details: "try later"},
		},
		{
			// GC goes on after an error (SPEC.md, section 3); the first error is returned.
			name: "GC", verb: cni.GC, plugins: []string{"coded", "good", "mute"},
			want: cni.Error{Plugin: "coded", Code: 11, Msg: "no addresses", Details: "try later"},
		},
		{
			name: "CHECK of an old version", verb: cni.Check, version: "0.3.1", plugins: []string{"good"},
			want: cni.Error{Msg: `configuration version "0.3.1" does not support the CHECK command`},
		},
		{
			name: "verb", verb: cni.Version, plugins: []string{"good"},
			want: cni.Error{Msg: `verb "VERSION": libcni runs ADD, CHECK, DEL, GC and STATUS`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			version := "1.1.0"
			if tt.version != "" {
				version = tt.version
			}
			list := map[string]any{"cniVersion": version, "name": "failing"}
			var chain []any
			for _, p := range tt.plugins {
				chain = append(chain, map[string]any{"type": p})
			}
			list["plugins"] = chain
			text, err := json.Marshal(list)
			check(t, err)
			req := request(cni.Add, string(text), dir)
			if tt.verb != "" {
				req.Verb = tt.verb
			}
			if tt.ifName != "" {
				req.IfName = tt.ifName
			}
			req.Timeout = tt.timeout
			out, _ := run(t, req)
			if out.Failure == nil {
				t.Fatalf("got %+v, want a failure", out)
			}
			got := *out.Failure
			if before, after, found := strings.Cut(got.Msg, "killed after "); found {
				_, rest, _ := strings.Cut(after, " ")
				got.Msg = before + "killed after DURATION " + rest
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("failure (-want +got):\n%s", diff)
			}
			if tt.wantText != "" && out.Err().Error() != tt.wantText {
				t.Errorf("got %q, want %q", out.Err(), tt.wantText)
			}
			if out.Result != nil {
				t.Errorf("got the result %s, want none", out.Result)
			}
		})
	}
	kill(t, "sleep\x001007\x00")
}

func TestRun_conflist_error(t *testing.T) {
	_, err := cni.Run(t.Context(), cni.Request{Verb: cni.Add, Conflist: []byte("{")}, nil)
	if got, want := errorText(err),
		"conflist: error parsing configuration list: unexpected end of JSON input"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRun_concurrently(t *testing.T) {
	emptyCache(t)
	dir := chainPlugins(t)
	var group errgroup.Group
	for i := range 20 {
		group.Go(func() error {
			req := request(cni.Add, chain, dir)
			req.ContainerID = strings.Repeat("x", i+1)
			out, err := cni.Run(t.Context(), req, nil)
			if err != nil {
				return err
			}
			return out.Err()
		})
	}
	check(t, group.Wait())
	names, err := filepath.Glob(cni.CacheDir + "/results/net-x*-eth0")
	check(t, err)
	if got, want := len(names), 20; got != want {
		t.Errorf("got %d cached results, want %d", got, want)
	}
}

func TestFindPlugin(t *testing.T) {
	dir := chainPlugins(t)
	got, err := cni.FindPlugin("second", []string{"/does/not/exist", dir})
	if want := dir + "/second"; got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	_, err = cni.FindPlugin("pigeon", []string{"/does/not/exist", dir})
	want := `plugin pigeon: no such binary in /does/not/exist:` + dir + `: failed to find plugin "pigeon" in path ` +
		`[/does/not/exist ` + dir + `]`
	if errorText(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
