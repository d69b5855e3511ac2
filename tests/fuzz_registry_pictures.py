"""Small valid pictures and a video, and their readers, for the fuzz runs."""
import numpy as np
from PIL import Image

from humanbody.data.imageloader import CropCache
from humanbody.data.images import image_info, load_image, open_rgb, read_frames
from humanbody.data.imagestore import ImageStore

PIXELS = np.asarray(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5).resize((24, 16)))


def _saver(suffix, mode="RGB", **options):
    """Return a function that writes the small picture in one format."""
    def save(path):
        path, exif = path.with_suffix(suffix), Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(PIXELS).convert(mode).save(path, **({"exif": exif} if suffix in (".jpg", ".png", ".webp", ".tif") else {}), **options)
        return path

    return save


def _deep(path):
    path = path.with_suffix(".png")
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)
    return path


def _video(path):
    """Five frames of 32 x 32."""
    import av
    path = path.with_suffix(".mp4")
    with av.open(str(path), "w") as out:
        s = out.add_stream("mpeg4", rate=10)
        s.width, s.height, s.pix_fmt = 32, 32, "yuv420p"
        for k in range(5): out.mux(s.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * k, np.uint8), format="rgb24")))
        out.mux(s.encode())
    return path


def _cache(path):
    """The index of a crop cache of one row."""
    store = ImageStore.create(path.parent / "store", "s", "train", ["a.jpg"], [[5.0, 5.0]], [0.1], {}, overwrite=True)
    cache = CropCache(path.parent / "cache", store, 8)
    cache.put(0, np.ones((cache.side, cache.side, 3), np.uint8))
    return path.parent / "cache/index.json"


def _read_cache(path):
    return CropCache(path.parent, ImageStore(path.parent.parent / "store"), 8).get(0)


READERS = {
    "picture_jpg": (_saver(".jpg", quality=80), load_image),
    "picture_jpg_reduced": (_saver(".jpg", quality=80), lambda path: open_rgb(path, 2)),
    "picture_jpg_cmyk": (_saver(".jpg", "CMYK", quality=80), load_image),
    "picture_jpg_progressive": (_saver(".jpg", quality=80, progressive=True), load_image),
    "picture_png": (_saver(".png"), load_image),
    "picture_png_palette": (_saver(".png", "P"), load_image),
    "picture_png_16_bit": (_deep, load_image),
    "picture_tif": (_saver(".tif"), load_image),
    "picture_tif_packed": (_saver(".tif", compression="tiff_deflate"), load_image),
    "picture_bmp": (_saver(".bmp"), load_image),
    "picture_gif": (_saver(".gif", "P"), load_image),
    "picture_webp": (_saver(".webp", quality=60), load_image),
    "picture_ppm": (_saver(".ppm"), load_image),
    "picture_header": (_saver(".png"), image_info),
    "video_frames": (_video, lambda path: list(read_frames(path, [0, 4]))),
    "crop_cache": (_cache, _read_cache),
}
