package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// File is a snapshot that has been found whole.
type File struct {
	Metadata
	Path string
	Size int64
	body int64 // bytes of the compressed records
}

// Open reads a file from its beginning to its end and refuses it, by a
// *DamagedError, unless every byte is as it was written.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the snapshot: %w", err)
	}
	defer f.Close()
	m, body, size, err := inspect(f)
	if err == nil {
		err = checkDigest(f, size)
	}
	if err != nil {
		return nil, &DamagedError{Path: path, Cause: err}
	}
	return &File{Metadata: m, Path: path, Size: size, body: body}, nil
}

// Peek reads the metadata of a file, without looking at what is between its
// beginning and its end.
func Peek(f io.ReadSeeker) (Metadata, error) {
	m, _, _, err := inspect(f)
	return m, err
}

// inspect reads beginning and end, and gives the metadata, how many bytes the
// records take, and the size of the file.
func inspect(f io.ReadSeeker) (m Metadata, body, size int64, err error) {
	start := make([]byte, len(magic))
	n, err := io.ReadFull(f, start)
	if err := beginning(start[:n]); err != nil {
		return m, 0, 0, err
	}
	if err != nil {
		return m, 0, 0, ErrCut
	}
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return m, 0, 0, err
	}
	if size < int64(len(magic)+tailSize) {
		return m, 0, 0, ErrCut
	}
	tail, err := readAt(f, size-int64(tailSize), tailSize)
	if err != nil {
		return m, 0, 0, err
	}
	if !bytes.HasSuffix(tail, []byte(ending)) {
		return m, 0, 0, ErrCut
	}
	length := int64(binary.BigEndian.Uint32(tail))
	at := size - int64(tailSize) - length
	if length > maxMetadata || at < int64(len(magic)) {
		return m, 0, 0, ErrAltered
	}
	text, err := readAt(f, at, int(length))
	if err != nil {
		return m, 0, 0, err
	}
	if json.Unmarshal(text, &m) != nil {
		return m, 0, 0, ErrAltered
	}
	return m, at - int64(len(magic)), size, nil
}

// beginning tells other files, and other versions, by their first bytes.
func beginning(start []byte) error {
	switch text := string(start); {
	case text == magic, len(text) < len(magic) && strings.HasPrefix(magic, text) && text != "":
		return nil
	case strings.HasPrefix(text, family):
		return ErrNewer
	}
	return ErrForeign
}

func readAt(f io.ReadSeeker, at int64, size int) ([]byte, error) {
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return nil, err
	}
	data := make([]byte, size)
	_, err := io.ReadFull(f, data)
	return data, err
}

func checkDigest(f io.ReadSeeker, size int64) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	covered := size - int64(digestSize+len(ending))
	digest := sha256.New()
	if _, err := io.CopyN(digest, f, covered); err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	want := make([]byte, digestSize)
	if _, err := io.ReadFull(f, want); err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	if !bytes.Equal(digest.Sum(nil), want) {
		return ErrAltered
	}
	return nil
}

// Records gives every key in the order of the keys. The value that is handed
// out is valid until the next one. After an error nothing follows.
func (s *File) Records() iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		stopped := false
		count, err := s.each(func(kv *mvccpb.KeyValue) bool {
			stopped = !yield(kv, nil)
			return !stopped
		})
		if err == nil && !stopped && count != s.Keys {
			err = fmt.Errorf("it has %d keys instead of %d: %w", count, s.Keys, ErrAltered)
		}
		if err != nil && !stopped {
			yield(nil, &DamagedError{Path: s.Path, Cause: err})
		}
	}
}

func (s *File) each(use func(*mvccpb.KeyValue) bool) (count int64, err error) {
	f, err := os.Open(s.Path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	packed := io.NewSectionReader(f, int64(len(magic)), s.body)
	unpacked, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return 0, err
	}
	defer unpacked.Close()
	in := bufio.NewReader(unpacked)
	for {
		kv, err := readRecord(in)
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return count, err
		}
		count++
		if !use(kv) {
			return count, nil
		}
	}
}

func readRecord(in *bufio.Reader) (*mvccpb.KeyValue, error) {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	if size > maxRecord {
		return nil, ErrAltered
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, ErrAltered
	}
	kv := &mvccpb.KeyValue{}
	if err := kv.Unmarshal(data); err != nil {
		return nil, ErrAltered
	}
	return kv, nil
}

// Watched are the records of a file, with reports of how far whoever reads
// them is.
func Watched(s *File, report func(Progress)) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		progress, p := newReporter(report), Progress{Total: s.Keys}
		for kv, err := range s.Records() {
			if !yield(kv, err) {
				return
			}
			p.Keys++
			progress.at(p)
		}
	}
}
