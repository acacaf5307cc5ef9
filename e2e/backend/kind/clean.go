package kind

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// cacheDir is the directory of this program on kind's nodes. imageRepository is the name of the pods' image on the
	// nodes and in the host's Docker.
	cacheDir        = "/var/cache/cnitest"
	imageRepository = "localhost/cnitest/pod"
	// cleanTimeout limits the removal of both.
	cleanTimeout = time.Minute
)

// clean removes from kind's nodes and from the host's Docker everything that this run or a killed one copied there,
// whichever build it was. Images that nodes pulled themselves stay.
func (b *Backend) clean(ctx context.Context) error {
	if b.image.pulled {
		return nil
	}
	errs := make([]error, len(b.nodes)+1)
	var all sync.WaitGroup
	for i, n := range b.nodes {
		all.Go(func() {
			if _, err := output(ctx, nil, "docker", "exec", n.container, "sh", "-c", "rm -rf "+cacheDir+"; "+
				removeImages); err != nil {
				errs[i] = fmt.Errorf("node %s: remove what was brought there: %w", n.name, err)
			}
		})
	}
	all.Wait()
	errs[len(b.nodes)] = removeHostImages(ctx)
	return errors.Join(errs...)
}

// removeImages removes each name of the images from containerd: an import gives an image several names (one with its
// digest, and one from the CRI plugin), and an image that still has a name stays on the disk.
const removeImages = `names() {
	ctr --namespace=k8s.io images ls |
		awk '$1 ~ "^` + imageRepository + `[:@]" {ours[$3]} {name[NR] = $1; digest[NR] = $3}
			END {for (i in name) if (digest[i] in ours) print name[i]}'
}
names | xargs -r ctr --namespace=k8s.io images rm --sync >/dev/null
left=$(names)
[ -z "$left" ] || { echo "images are left: $left" >&2; exit 1; }`

// removeHostImages removes the images of the containers outside the cluster.
func removeHostImages(ctx context.Context) error {
	text, err := output(ctx, nil, "docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", imageRepository)
	if refs := strings.Fields(text); err == nil && len(refs) > 0 {
		_, err = output(ctx, nil, append([]string{"docker", "rmi", "--force"}, refs...)...)
	}
	return err
}
