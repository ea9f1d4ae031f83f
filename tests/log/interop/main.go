// Interop judges a log of ours by the reference implementations of its standards, and makes one
// for ours to judge: each line of its input is a question in JSON, each line of its output an answer.
//
// https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature,
// https://c2sp.org/tlog-proof and https://c2sp.org/tlog-tiles
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"

	"github.com/transparency-dev/formats/log"
	cosignatures "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Kind      string
	Log       string   // verifier key of the log
	Witnesses []string // verifier keys of witnesses, all of which must have cosigned
	Note      []byte
	Receipt   []byte
	Leaf      []byte
	Index     int64
	Proof     [][]byte
	Size      int64
	Root      []byte
	Old       int64
	OldRoot   []byte
	Path      string
}

type answer struct {
	Refused string `json:",omitempty"` // why; what is not refused is accepted
	Made    *made  `json:",omitempty"`
}

type made struct {
	Log, Witness string // verifier keys
	Note         []byte
	Receipt      []byte
	Old          int64
	OldRoot      []byte
	Consistency  [][]byte
	Paths        []string
}

var judges = map[string]func(question) error{
	"note":        judgeNote,
	"receipt":     judgeReceipt,
	"inclusion":   judgeInclusion,
	"consistency": judgeConsistency,
	"path":        judgePath,
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		if err := answers.Encode(answered(asked)); err != nil {
			panic(err)
		}
	}
}

func answered(asked question) answer {
	if asked.Kind == "make" {
		log, err := make_(asked.Size, asked.Index, asked.Old)
		if err != nil {
			panic(err)
		}
		return answer{Made: log}
	}
	if err := judges[asked.Kind](asked); err != nil {
		return answer{Refused: err.Error()}
	}
	return answer{}
}

// judgeNote demands the signature of the log and of every witness.
func judgeNote(asked question) error {
	_, err := opened(asked, asked.Note)
	return err
}

func opened(asked question, data []byte) (*log.Checkpoint, error) {
	key, err := note.NewVerifier(asked.Log)
	if err != nil {
		return nil, err
	}
	var witnesses []note.Verifier
	for _, text := range asked.Witnesses {
		witness, err := cosignatures.NewVerifierForCosignatureV1(text)
		if err != nil {
			return nil, err
		}
		witnesses = append(witnesses, witness)
	}
	checkpoint, _, found, err := log.ParseCheckpoint(data, key.Name(), key, witnesses...)
	if err != nil {
		return nil, err
	}
	if len(found.Sigs) != 1+len(witnesses) {
		return nil, fmt.Errorf("%d of %d signatures", len(found.Sigs), 1+len(witnesses))
	}
	return checkpoint, nil
}

func judgeReceipt(asked question) error {
	var receipt proof.TLogProof
	if err := receipt.Unmarshal(asked.Receipt); err != nil {
		return err
	}
	checkpoint, err := opened(asked, receipt.Checkpoint)
	if err != nil {
		return err
	}
	hashes := make([][]byte, len(receipt.Hashes))
	for at := range receipt.Hashes {
		hashes[at] = receipt.Hashes[at][:]
	}
	asked.Index, asked.Proof = int64(receipt.Index), hashes
	asked.Size, asked.Root = int64(checkpoint.Size), checkpoint.Hash
	return judgeInclusion(asked)
}

func judgeInclusion(asked question) error {
	return tlog.CheckRecord(
		hashes(asked.Proof), asked.Size, hash(asked.Root), asked.Index, hash(asked.Leaf))
}

func judgeConsistency(asked question) error {
	return tlog.CheckTree(
		hashes(asked.Proof), asked.Size, hash(asked.Root), asked.Old, hash(asked.OldRoot))
}

// judgePath takes a path as tlog-tiles has it; those of sumdb say the height of a tile too.
func judgePath(asked question) error {
	_, err := tlog.ParseTilePath("tile/8/" + asked.Path)
	return err
}

func hash(data []byte) (made tlog.Hash) {
	copy(made[:], data)
	return made
}

func hashes(data [][]byte) []tlog.Hash {
	made := make([]tlog.Hash, len(data))
	for at := range data {
		made[at] = hash(data[at])
	}
	return made
}

func bytes(from []tlog.Hash) [][]byte {
	made := make([][]byte, len(from))
	for at := range from {
		made[at] = from[at][:]
	}
	return made
}

// make_ makes a log of this size, whose records are the entries that ours make of "0", "1", ...
// without a salt, and whose last checkpoint is cosigned.
func make_(size, index, old int64) (*made, error) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for at, each := range indexes {
			found[at] = stored[each]
		}
		return found, nil
	})
	for n := int64(0); n < size; n++ {
		entry := sha256.Sum256(fmt.Append(nil, n))
		more, err := tlog.StoredHashes(n, entry[:], reader)
		if err != nil {
			return nil, err
		}
		stored = append(stored, more...)
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return nil, err
	}
	before, err := tlog.TreeHash(old, reader)
	if err != nil {
		return nil, err
	}
	inclusion, err := tlog.ProveRecord(size, index, reader)
	if err != nil {
		return nil, err
	}
	consistency, err := tlog.ProveTree(size, old, reader)
	if err != nil {
		return nil, err
	}
	signed, log, witness, err := checkpoint(size, root)
	if err != nil {
		return nil, err
	}
	receipt := proof.TLogProof{
		Index:      uint64(index),
		Hashes:     inclusion_(inclusion),
		Checkpoint: signed,
		ExtraData:  fmt.Appendf(nil, "salus-record/v1\n\n%d", index),
	}
	var paths []string
	for _, tile := range tlog.NewTiles(8, 0, size) {
		paths = append(paths, tile.Path())
	}
	return &made{
		log, witness, signed, receipt.Marshal(), old, before[:], bytes(consistency), paths,
	}, nil
}

func inclusion_(from []tlog.Hash) [][sha256.Size]byte {
	made := make([][sha256.Size]byte, len(from))
	for at := range from {
		made[at] = from[at]
	}
	return made
}

// checkpoint gives a signed and cosigned checkpoint, and the verifier keys of log and witness.
func checkpoint(size int64, root tlog.Hash) (signed []byte, logKey, witnessKey string, err error) {
	const origin = "reference.example/log"
	secret, logKey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return
	}
	key, err := note.NewSigner(secret)
	if err != nil {
		return
	}
	secret, plain, err := note.GenerateKey(rand.Reader, "reference.example/witness")
	if err != nil {
		return
	}
	witness, err := cosignatures.NewSignerForCosignatureV1(secret)
	if err != nil {
		return
	}
	witnessKey, err = cosignatures.VKeyToCosignatureV1(plain)
	if err != nil {
		return
	}
	text := log.Checkpoint{Origin: origin, Size: uint64(size), Hash: root[:]}.Marshal()
	signed, err = note.Sign(&note.Note{Text: string(text)}, key, witness)
	return
}
