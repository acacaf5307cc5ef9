package kind

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeImages is a ctr whose list of images is a file.
const fakeImages = `case $3 in
ls) cat "$IMAGES" ;;
rm) shift 4; for name; do [ "$name" = "$STUCK" ] || sed -i "\|^$name |d" "$IMAGES"; done ;;
esac
`

func TestRemoveImages(t *testing.T) {
	program(t, "ctr", fakeImages)
	list := filepath.Join(t.TempDir(), "images")
	t.Setenv("IMAGES", list)
	const header, others = "REF TYPE DIGEST SIZE\n",
		"registry.k8s.io/pause:3.10 index sha256:9 1\nlocalhost/cnitest/plugins:latest manifest sha256:8 2\n"
	const ours = "localhost/cnitest/pod:0123 manifest sha256:1 3\nlocalhost/cnitest/pod:4567 manifest sha256:2 3\n" +
		"import-2026-01-01@sha256:1 manifest sha256:1 3\nsha256:7 manifest sha256:2 3\n"
	for _, tt := range []struct{ name, images, stuck, want, wantErr string }{
		{name: "of two builds", images: header + others + ours, want: header + others},
		{name: "none", images: header + others, want: header + others},
		{
			name: "one stays", images: header + ours, stuck: "localhost/cnitest/pod:0123", want: header +
				"localhost/cnitest/pod:0123 manifest sha256:1 3\n",
			wantErr: "images are left: localhost/cnitest/pod:0123\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(list, []byte(tt.images), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("STUCK", tt.stuck)
			var stderr strings.Builder
			command := exec.Command("sh", "-c", removeImages)
			command.Stderr = &stderr
			err := command.Run()
			if stderr.String() != tt.wantErr || (err != nil) != (tt.wantErr != "") {
				t.Errorf("got %v, %q, want %q", err, stderr.String(), tt.wantErr)
			}
			got, _ := os.ReadFile(list)
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBackend_clean(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOG", log)
	program(t, "docker", `printf '%s\n' "$*" | head -n 1 >>"$LOG"
case $* in
"exec absent"*) echo no such container >&2; exit 1 ;;
"image ls"*) echo localhost/cnitest/pod:0123; echo localhost/cnitest/pod:4567 ;;
esac
`)
	b := &Backend{image: &podImage{}, nodes: []*node{{name: "absent", container: "absent"}}}
	err := b.clean(t.Context())
	if want := "node absent: remove what was brought there: docker exec absent: exit status 1: no such container"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	got, _ := os.ReadFile(log)
	want := "exec absent sh -c rm -rf /var/cache/cnitest; names() {\n" +
		"image ls --format {{.Repository}}:{{.Tag}} localhost/cnitest/pod\nrmi --force localhost/cnitest/pod:0123 " +
		"localhost/cnitest/pod:4567\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docker's commands (-want +got):\n%s", diff)
	}
}
