package versions

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
)

// once is a hash that reads each file once: most programs are in several chains.
func once(hash func(file string) (string, error)) func(file string) (string, error) {
	known := map[string]string{}
	return func(file string) (string, error) {
		if sum, ok := known[file]; ok {
			return sum, nil
		}
		sum, err := hash(file)
		if err == nil {
			known[file] = sum
		}
		return sum, err
	}
}

// hashOfCode is the SHA-256 of a Go program without what says only from which version of its module it was built: the
// version and checksum of the module, and the IDs of the build. Two releases that differ in other plugins, or in
// documents, have the same. Versions of different lengths move what follows them, so that their programs differ. Of
// what is no Go program it is that of the file.
func hashOfCode(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return hashOf(file)
	}
	blank := func(what, around string) {
		data = bytes.ReplaceAll(data, fmt.Appendf(nil, around, what), fmt.Appendf(nil, around,
			bytes.Repeat([]byte(" "), len(what))))
	}
	if m := info.Main; m.Version != "" && m.Sum != "" {
		blank(m.Version, "mod\t"+m.Path+"\t%s\t")
		blank(m.Version, m.Path+"@%s/")
		blank(m.Sum, "%s")
	}
	program, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	hash := sha256.New()
	for _, section := range program.Sections {
		// What is not loaded is for debuggers; notes are the IDs.
		if section.Flags&elf.SHF_ALLOC == 0 || section.Type == elf.SHT_NOTE || section.Type == elf.SHT_NOBITS {
			continue
		}
		fmt.Fprintf(hash, "%s %d %x\n", section.Name, section.Addr, sha256.Sum256(data[section.Offset:][:section.Size]))
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
