"""`torchvision.ops`: boxes, regions of pictures, blocks of layers. Not here are turned boxes and the position-sensitive `ps_roi_align` and
`ps_roi_pool`."""

import sys as _sys

from anynet.torchvision.ops import blocks as misc
from anynet.torchvision.ops.blocks import MLP as MLP
from anynet.torchvision.ops.blocks import Conv2dNormActivation as Conv2dNormActivation
from anynet.torchvision.ops.blocks import Conv3dNormActivation as Conv3dNormActivation
from anynet.torchvision.ops.blocks import FrozenBatchNorm2d as FrozenBatchNorm2d
from anynet.torchvision.ops.blocks import Permute as Permute
from anynet.torchvision.ops.blocks import SqueezeExcitation as SqueezeExcitation
from anynet.torchvision.ops.boxes import batched_nms as batched_nms
from anynet.torchvision.ops.boxes import box_area as box_area
from anynet.torchvision.ops.boxes import box_convert as box_convert
from anynet.torchvision.ops.boxes import box_iou as box_iou
from anynet.torchvision.ops.boxes import clip_boxes_to_image as clip_boxes_to_image
from anynet.torchvision.ops.boxes import complete_box_iou as complete_box_iou
from anynet.torchvision.ops.boxes import distance_box_iou as distance_box_iou
from anynet.torchvision.ops.boxes import generalized_box_iou as generalized_box_iou
from anynet.torchvision.ops.boxes import masks_to_boxes as masks_to_boxes
from anynet.torchvision.ops.boxes import nms as nms
from anynet.torchvision.ops.boxes import remove_small_boxes as remove_small_boxes
from anynet.torchvision.ops.deform_conv import DeformConv2d as DeformConv2d
from anynet.torchvision.ops.deform_conv import deform_conv2d as deform_conv2d
from anynet.torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork as FeaturePyramidNetwork
from anynet.torchvision.ops.losses import complete_box_iou_loss as complete_box_iou_loss
from anynet.torchvision.ops.losses import distance_box_iou_loss as distance_box_iou_loss
from anynet.torchvision.ops.losses import generalized_box_iou_loss as generalized_box_iou_loss
from anynet.torchvision.ops.losses import sigmoid_focal_loss as sigmoid_focal_loss
from anynet.torchvision.ops.poolers import MultiScaleRoIAlign as MultiScaleRoIAlign
from anynet.torchvision.ops.poolers import RoIAlign as RoIAlign
from anynet.torchvision.ops.poolers import RoIPool as RoIPool
from anynet.torchvision.ops.poolers import roi_align as roi_align
from anynet.torchvision.ops.poolers import roi_pool as roi_pool
from anynet.torchvision.ops.stochastic_depth import DropBlock2d as DropBlock2d
from anynet.torchvision.ops.stochastic_depth import DropBlock3d as DropBlock3d
from anynet.torchvision.ops.stochastic_depth import StochasticDepth as StochasticDepth
from anynet.torchvision.ops.stochastic_depth import drop_block2d as drop_block2d
from anynet.torchvision.ops.stochastic_depth import drop_block3d as drop_block3d
from anynet.torchvision.ops.stochastic_depth import stochastic_depth as stochastic_depth

_sys.modules[f"{__name__}.misc"] = misc  # torchvision's path
